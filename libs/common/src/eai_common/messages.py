"""The typed events that travel the broker, and the one place where they become bytes and bytes become events.

A body is JSON with a schema version. Readers ignore fields they do not know, so adding one is no new version; a version
they do not know is refused, and goes to the dead-letter queue from where a newer reader can replay it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    TypeAdapter,
    ValidationError,
)

from eai_common.errors import Permanent
from eai_common.replies import ReplyMessage

__all__ = [
    "EVENTS",
    "AgentReplied",
    "Event",
    "HistoryMessage",
    "HistoryUpdate",
    "HistoryUpdated",
    "InvalidMessage",
    "MessageAudio",
    "MessageFailed",
    "MessageText",
    "MessageTranscribed",
    "MessageType",
    "Metadata",
    "Outcome",
    "TaskCompleted",
    "decode",
    "encode",
    "rfc3339",
    "salvage",
]

SCHEMA_VERSION = 1

MessageType = Literal["text", "audio"]


class InvalidMessage(Permanent):
    """The body is not an event that the consumer can read; the text says where it fails, without its content."""

    error_code = "INVALID_MESSAGE"


def _canonical_uuid(value: str) -> str:
    return str(UUID(value))


def _in_utc(value: datetime) -> datetime:
    """Whoever writes no zone means UTC."""
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("outside of the years 1 to 9999") from error


def _not_too_deep(value: object) -> object:
    """JSON's libraries end at a depth of about 250, and a result holds the metadata some levels deeper."""
    level: list[object] = [value]
    for _ in range(_METADATA_DEPTH + 1):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return value
    raise ValueError(f"is nested deeper than {_METADATA_DEPTH} levels")


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


_METADATA_DEPTH = 32
Metadata = Annotated[dict[str, JsonValue], BeforeValidator(_not_too_deep)]
"""A client's own data, handed through."""
MessageId = Annotated[str, AfterValidator(_canonical_uuid)]
Timestamp = Annotated[datetime, AfterValidator(_in_utc)]
EventT = TypeVar("EventT", bound="Event")


class Event(BaseModel):
    """What every event carries from the first hop to the last, so that no stage has to look anything up."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, protected_namespaces=())

    name: ClassVar[str] = "unknown"
    """The event's name: its routing key and its AMQP `type`."""
    fails_task: ClassVar[bool] = True
    """Whether giving up on it must be told to the user as `message.failed`."""

    schema_version: Literal[1] = Field(default=1, validation_alias="schema", serialization_alias="schema")
    message_id: MessageId
    user_number: str = Field(min_length=1, max_length=64)
    message_type: MessageType = "text"
    timestamp: Timestamp  # when ingress accepted the message
    previous_message: str | None = None
    metadata: Metadata = Field(default_factory=dict)
    provider: str | None = None
    reasoning_engine_id: str | None = None
    callback_url: str | None = None
    trace_headers: dict[str, str] = Field(default_factory=dict)
    transcript: str | None = None

    @classmethod
    def after(cls, event: Event, **fields: object) -> Self:
        """The event of this type that follows `event`: its own fields, and the journey's taken over."""
        journey = {name: getattr(event, name) for name in Event.model_fields}
        return cls.model_validate({**journey, **fields})


class MessageText(Event):
    """The user wrote something."""

    name = "message.text"
    message: str


class MessageAudio(Event):
    """The user sent a voice message; `message` is where to fetch it."""

    name = "message.audio"
    message_type: MessageType = "audio"
    message: str


class MessageTranscribed(Event):
    """A voice message became text, in `transcript`; `confidence` from 0 to 1, None when the recogniser gave none."""

    name = "message.transcribed"
    transcript: str
    confidence: float | None = None


class HistoryMessage(BaseModel):
    """One message of a conversation that took place elsewhere."""

    model_config = ConfigDict(frozen=True)
    content: str
    role: Literal["human", "ai"]


class HistoryUpdate(Event):
    """Messages to put into the user's thread without an answer."""

    name = "history.update"
    messages: list[HistoryMessage]


class HistoryUpdated(Event):
    """The messages are in the thread; `answer` is what the provider said to that, as it said it."""

    name = "history.updated"
    answer: JsonValue = None


class AgentReplied(Event):
    """The agent's messages of this turn, closed by the usage statistics; texts still in Markdown.

    Of messages that were answered as one turn, the last has the answer; the others name it in `merged_into`.
    """

    name = "agent.replied"
    messages: list[ReplyMessage]
    agent_id: str
    merged_into: MessageId | None = None


class MessageFailed(Event):
    """The message cannot be answered. `error` is for the operator; the formatter finds the user's words by the code."""

    name = "message.failed"
    fails_task = False
    error_code: str
    error: str
    failed_stage: str
    retry_after_s: int | None = None


Outcome = Literal["completed", "failed"]


class TaskCompleted(Event):
    """A terminal state was stored; `result` is what the poller answers, so that callbacks do not depend on its TTL."""

    name = "task.completed"
    fails_task = False
    status: Outcome
    result: dict[str, JsonValue]


class _Predecessor(BaseModel):
    """A body that the gateway before this one wrote: no schema, `id` for `message_id`."""

    id: str
    type: Literal["user_message"]


EVENTS: Mapping[str, type[Event]] = {
    kind.name: kind
    for kind in (
        MessageText,
        MessageAudio,
        MessageTranscribed,
        HistoryUpdate,
        HistoryUpdated,
        AgentReplied,
        MessageFailed,
        TaskCompleted,
    )
}
"""Every event by its name."""

_IDENTITY = ("message_id", "user_number", "message_type", "timestamp", "metadata", "callback_url", "trace_headers")
_JSON_OBJECT = TypeAdapter(dict[str, Any])


def encode(event: Event) -> bytes:
    """The event as a message body: JSON in UTF-8."""
    return event.__pydantic_serializer__.to_json(event, by_alias=True)


def decode(
    body: bytes, *, event_name: str | None, accepts: Sequence[type[EventT]], fallback_time: datetime | None
) -> EventT:
    """The event in a body; `event_name` (AMQP `type`, else the routing key) says which of `accepts` it is.

    A predecessor's body, or a name that is none of ours, is read as the first of `accepts`. `fallback_time` stands in
    for a missing timestamp. Raises InvalidMessage.
    """
    fields = _json_object(body)
    if "schema" not in fields:
        fields = _from_predecessor(fields)
    if fallback_time is not None:
        fields.setdefault("timestamp", fallback_time)
    chosen = next((kind for kind in accepts if kind.name == event_name), accepts[0])
    try:
        return chosen.model_validate(fields)
    except ValidationError as error:
        raise InvalidMessage(f"not a {chosen.name} of schema {SCHEMA_VERSION}: {_where(error)}") from error


def salvage(body: bytes) -> Event | None:
    """What can be told of a body that no handler reads: whose message it was. None when not even that.

    So that a message which was accepted once still ends in an answer, when its body is of a schema that this version
    does not know.
    """
    try:
        fields = _json_object(body)
        return Event.model_validate({name: fields[name] for name in _IDENTITY if name in fields})
    except (InvalidMessage, ValidationError):
        return None


def rfc3339(moment: datetime) -> str:
    """The moment in UTC with milliseconds, as in `2026-01-01T10:30:00.123Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        return _JSON_OBJECT.validate_python(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise InvalidMessage(f"not JSON: {error.msg} at byte {error.pos} of {len(body)}") from error
    except ValidationError as error:
        raise InvalidMessage("not a JSON object") from error


def _from_predecessor(fields: Mapping[str, Any]) -> dict[str, Any]:
    try:
        predecessor = _Predecessor.model_validate(fields)
    except ValidationError as error:
        raise InvalidMessage(f"no schema, and not the predecessor's message either: {_where(error)}") from error
    given = {name: value for name, value in fields.items() if value is not None}  # it wrote null for absent
    return {**given, "schema": SCHEMA_VERSION, "message_id": predecessor.id}


def _where(error: ValidationError) -> str:
    found = [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors(include_input=False)]
    return "; ".join(found[:5])

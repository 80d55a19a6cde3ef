"""The typed events that pass the broker, and the one place where they become bytes and bytes become events.

A body is JSON with a schema version. Readers ignore unknown fields, so a new field needs no new version. They refuse an
unknown version: it goes to the dead-letter queue, to be replayed once the readers know it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, ClassVar, Literal, Self, TypeVar
from uuid import UUID

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
)

from eai_common.codec import PLAIN, Codec
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
    "TranscriptionFailed",
    "decode",
    "decode_named",
    "encode",
    "encode_named",
    "rfc3339",
    "salvage",
]

SCHEMA_VERSION = 1

MessageType = Literal["text", "audio"]

_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


class InvalidMessage(Permanent):
    """The consumer cannot read the body as an event. The text says where reading fails, without the content."""

    error_code = "INVALID_MESSAGE"


def _canonical_uuid(value: str) -> str:
    return value if _CANONICAL_UUID.fullmatch(value) else str(UUID(value))  # parsing costs several times the match


def _in_utc(value: datetime) -> datetime:
    """A time without a zone is in UTC."""
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("outside of the years 1 to 9999") from error


def _not_too_deep(value: object) -> object:
    """JSON libraries stop at a depth of about 250, and a result nests the metadata some levels deeper."""
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
"""A client's own data, passed through unchanged."""
MessageId = Annotated[str, AfterValidator(_canonical_uuid)]
Timestamp = Annotated[datetime, AfterValidator(_in_utc)]
EventT = TypeVar("EventT", bound="Event")


class Event(BaseModel):
    """What every event carries from the first stage to the last, so that no stage has to look anything up."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, protected_namespaces=())

    name: ClassVar[str] = "unknown"
    """The event's name: its routing key and its AMQP `type`."""
    fails_task: ClassVar[bool] = True
    """Whether the user must get a `message.failed` when a stage gives it up."""

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
    channel: str = "whatsapp"  # where the user writes; decides how the reply is formatted
    trace_headers: dict[str, str] = Field(default_factory=dict)
    transcript: str | None = None
    replay: int = 0  # when an operator ordered this run of the message, in milliseconds since 1970; 0: the first run
    outcome_number: int = 0  # which of the user's outcomes it belongs to: a later message's is higher; 0: not known
    outcome_after: int = 0  # the number of the outcome before it; 0: there is none, or none is known

    @classmethod
    def after(cls, event: Event, **fields: object) -> Self:
        """The event of this type that follows `event`: `fields`, and all fields of `Event` copied from it."""
        copied = {name: getattr(event, name) for name in Event.model_fields}
        return cls.model_validate({**copied, **fields})


class MessageText(Event):
    """The user wrote a text."""

    name = "message.text"
    message: str


class MessageAudio(Event):
    """The user sent a voice message; `message` is its URL."""

    name = "message.audio"
    message_type: MessageType = "audio"
    message: str


class MessageTranscribed(Event):
    """A voice message was transcribed; `confidence` is from 0 to 1, None if the recogniser gave none."""

    name = "message.transcribed"
    transcript: str
    confidence: float | None = None


class HistoryMessage(BaseModel):
    """One message of a conversation that took place elsewhere."""

    model_config = ConfigDict(frozen=True)
    content: str
    role: Literal["human", "ai"]


class HistoryUpdate(Event):
    """Messages to add to the user's thread without asking for an answer."""

    name = "history.update"
    messages: list[HistoryMessage]


class HistoryUpdated(Event):
    """The messages are in the thread; `answer` is the provider's own response."""

    name = "history.updated"
    answer: JsonValue = None


class AgentReplied(Event):
    """The agent's messages of this turn, usage statistics last; texts are still Markdown.

    When several messages were answered as one turn, the last has the answer; the others name it in `merged_into`.
    """

    name = "agent.replied"
    messages: list[ReplyMessage]
    agent_id: str
    merged_into: MessageId | None = None


class MessageFailed(Event):
    """The message cannot be answered. `error` is for the operator; the formatter finds the user's text by the code."""

    name = "message.failed"
    fails_task = False
    error_code: str
    error: str
    failed_stage: str
    retry_after_s: int | None = None


class TranscriptionFailed(MessageFailed):
    """The voice message cannot be transcribed. The agent router tells the user, in the order of the user's messages."""

    name = "transcription.failed"
    fails_task = True


Outcome = Literal["completed", "failed"]


class TaskCompleted(Event):
    """A terminal state was stored. `result` is what the poller answers: callbacks must not depend on its TTL."""

    name = "task.completed"
    fails_task = False
    status: Outcome
    result: dict[str, JsonValue]


class _Predecessor(BaseModel):
    """A body that the previous gateway wrote: no schema, `id` instead of `message_id`."""

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
        TranscriptionFailed,
        TaskCompleted,
    )
}
"""Every event by its name."""

_IDENTITY = (
    "message_id",
    "user_number",
    "message_type",
    "timestamp",
    "metadata",
    "callback_url",
    "channel",
    "trace_headers",
    "replay",
)


def encode(event: Event, codec: Codec = PLAIN) -> bytes:
    """The event as a message body: JSON in UTF-8, encoded."""
    return codec.encode(event.__pydantic_serializer__.to_json(event, by_alias=True))


def decode(
    body: bytes,
    *,
    event_name: str | None,
    accepts: Sequence[type[EventT]],
    fallback_time: datetime | None,
    codec: Codec = PLAIN,
) -> EventT:
    """The event in a body; `event_name` (AMQP `type`, else the routing key) says which of `accepts` it is.

    The first of `accepts` is used for the previous gateway's bodies and for unknown names. `fallback_time` replaces a
    missing timestamp. Raises InvalidMessage.
    """
    fields = _json_object(body, codec)
    if "schema" not in fields:
        fields = _from_predecessor(fields)
    if fallback_time is not None:
        fields.setdefault("timestamp", fallback_time)
    chosen = next((kind for kind in accepts if kind.name == event_name), accepts[0])
    try:
        return chosen.model_validate(fields)
    except ValidationError as error:
        raise InvalidMessage(f"not a {chosen.name} of schema {SCHEMA_VERSION}: {_describe(error)}") from error


def encode_named(event: Event) -> bytes:
    """The event as it is stored where nothing else says its name: a line with the name, then the body."""
    return event.name.encode() + b"\n" + encode(event)


def decode_named(stored: bytes) -> Event:
    """What `encode_named` was given. Raises InvalidMessage."""
    name, _, body = stored.partition(b"\n")
    kind = EVENTS[name.decode()]
    return decode(body, event_name=kind.name, accepts=[kind], fallback_time=None)


def salvage(body: bytes, codec: Codec = PLAIN) -> Event | None:
    """Whose message an unreadable body was; None if that is unreadable, too.

    With it, an accepted message ends in an answer even if its body has a schema that this version does not know.
    """
    try:
        fields = _json_object(body, codec)
        return Event.model_validate({name: fields[name] for name in _IDENTITY if name in fields})
    except (InvalidMessage, ValidationError):
        return None


def rfc3339(moment: datetime) -> str:
    """The moment in UTC with milliseconds, as in `2026-01-01T10:30:00.123Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json_object(body: bytes, codec: Codec) -> dict[str, object]:
    try:
        fields = orjson.loads(codec.decode(body))
    except orjson.JSONDecodeError as error:
        raise InvalidMessage(f"not JSON: {error.msg} at byte {error.pos} of {len(body)}") from error
    except ValueError as error:
        raise InvalidMessage(f"cannot be decoded: {error}") from error
    if not isinstance(fields, dict):
        raise InvalidMessage("not a JSON object")
    return fields


def _from_predecessor(fields: Mapping[str, object]) -> dict[str, object]:
    try:
        predecessor = _Predecessor.model_validate(fields)
    except ValidationError as error:
        raise InvalidMessage(f"no schema, and not a message of the previous gateway: {_describe(error)}") from error
    present = {name: value for name, value in fields.items() if value is not None}  # it wrote null for absent
    return {**present, "schema": SCHEMA_VERSION, "message_id": predecessor.id}


def _describe(error: ValidationError) -> str:
    found = [f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors(include_input=False)]
    return "; ".join(found[:5])

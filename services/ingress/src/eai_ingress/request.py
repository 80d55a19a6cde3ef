"""The webhook's body: one message of a user, validated field by field."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlsplit

import orjson
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, ValidationInfo, field_validator

from eai_common.content import CLEAN_CHARACTER, ContentRules
from eai_common.http import ErrorBody, HttpError
from eai_common.http.errors import FieldError
from eai_common.http.openapi import CLEAN_FIELDS, CLEAN_TEXT
from eai_common.messages import MessageType, Metadata
from eai_common.outbound import OutboundPolicy, OutboundRefused, Target
from eai_common.user_numbers import USER_NUMBER_PATTERN, canonical_user_number

__all__ = [
    "ClientData",
    "EngineId",
    "Provider",
    "RequestRules",
    "UserNumber",
    "UserRequest",
    "WebhookRequest",
    "parse_request",
    "parse_webhook",
]

RequestT = TypeVar("RequestT", bound="UserRequest")

_ENGINE_ID = re.compile(r"[0-9]{1,32}|projects/[a-z0-9-]{1,64}/locations/[a-z0-9-]{1,64}/reasoningEngines/[0-9]{1,32}")
_AUDIO_PATH = re.compile(r"\.(mp3|wav|m4a|aac|ogg|oga|flac|wma|opus)$", re.IGNORECASE)
# What the published API description adds to the types. A callback's host may also be a public address or a name in
# other letters; the description keeps to what any reader understands.
_HTTP_URL = r"^\s*https?://[A-Za-z0-9.-]+(:[0-9]{1,4})?(/[!-~]*)?\s*$"
_PUBLIC_HTTPS = r"^https://([a-z0-9]{1,32}\.){1,4}[a-z]{2,16}(/[A-Za-z0-9/_.~-]*)?$"
_TEXT_OR_AUDIO: JsonValue = [
    {"properties": {"message_type": {"enum": ["text", None]}}},
    {
        "properties": {"message_type": {"const": "audio"}, "message": {"pattern": _HTTP_URL}},
        "required": ["message_type"],
    },
]
_SAYS_SOMETHING = rf"^{CLEAN_CHARACTER}*(?!\s){CLEAN_CHARACTER}{CLEAN_CHARACTER}*$"
_MESSAGE_CHARACTERS = 4096
_METADATA_BYTES = 8 * 1024


UserNumber = Annotated[
    str,
    Field(
        description="E.164, with or without the leading +. Also identifies the thread.",
        json_schema_extra={"pattern": USER_NUMBER_PATTERN},
    ),
]
ClientData = Annotated[
    Metadata,
    Field(
        description=f"The client's own data, returned with the result; {_METADATA_BYTES} bytes of JSON at most.",
        json_schema_extra=CLEAN_FIELDS,
    ),
]
Provider = Annotated[str, Field(description="Which provider answers; one of the configured ones.")]
EngineId = Annotated[
    str,
    Field(
        description="Another engine for this message: digits, or a full resource name of the configured project.",
        json_schema_extra={"pattern": f"^({_ENGINE_ID.pattern})$"},
    ),
]


@dataclass(frozen=True, slots=True)
class RequestRules:
    """The rules that depend on settings."""

    providers: frozenset[str]
    opaque_user_numbers: bool = False
    callbacks: OutboundPolicy = field(default_factory=OutboundPolicy)
    content: ContentRules = field(default_factory=ContentRules)


class UserRequest(BaseModel):
    """The rules for fields that requests share. Unknown fields are ignored; wrong types are not converted."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _texts(cls, value: JsonValue, info: ValidationInfo) -> JsonValue:
        _rules(info).content.check(value)
        return value

    @field_validator("user_number", check_fields=False)
    @classmethod
    def _user_number(cls, value: str, info: ValidationInfo) -> str:
        return canonical_user_number(value, opaque_allowed=_rules(info).opaque_user_numbers)

    @field_validator("metadata", check_fields=False)
    @classmethod
    def _metadata(cls, value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        if value is not None and (size := len(orjson.dumps(value))) > _METADATA_BYTES:
            raise ValueError(f"has {size} bytes as JSON, takes {_METADATA_BYTES} at most")
        return value

    @field_validator("provider", check_fields=False)
    @classmethod
    def _provider(cls, value: str | None, info: ValidationInfo) -> str | None:
        known = _rules(info).providers
        if value is not None and value not in known:
            raise ValueError(f"is not configured here, takes one of {', '.join(sorted(known))}")
        return value

    @field_validator("reasoning_engine_id", check_fields=False)
    @classmethod
    def _engine_id(cls, value: str | None) -> str | None:
        if value is not None and not _ENGINE_ID.fullmatch(value):
            raise ValueError("takes digits, or projects/…/locations/…/reasoningEngines/<digits>")
        return value


class WebhookRequest(UserRequest):
    """One message of a user."""

    model_config = ConfigDict(json_schema_extra={"anyOf": _TEXT_OR_AUDIO})

    user_number: UserNumber
    message: str = Field(
        description=f"The text, or the http or https URL of a recording; blanks around it do not count. "
        f"{_MESSAGE_CHARACTERS} characters at most.",
        json_schema_extra={"pattern": _SAYS_SOMETHING, "maxLength": _MESSAGE_CHARACTERS},
    )
    message_type: Literal["text", "audio"] | None = Field(
        default=None, description="When absent, the URL of an audio file is audio, anything else text."
    )
    previous_message: str | None = Field(
        default=None,
        max_length=16_384,
        description="What the assistant said before, for example from a template.",
        json_schema_extra={"pattern": CLEAN_TEXT},
    )
    metadata: ClientData | None = None
    provider: Provider | None = None
    reasoning_engine_id: EngineId | None = None
    callback_url: str | None = Field(
        default=None,
        max_length=2048,
        description="A public address that the signed result is delivered to.",
        json_schema_extra={"format": "uri", "pattern": _PUBLIC_HTTPS},
    )

    @property
    def kind(self) -> MessageType:
        """The given type; if none is given, audio for a URL of an audio file, and text for anything else."""
        if self.message_type is not None:
            return self.message_type
        if _is_http_url(self.message) and _AUDIO_PATH.search(urlsplit(self.message).path):
            return "audio"
        return "text"

    @field_validator("message")
    @classmethod
    def _message(cls, value: str) -> str:
        trimmed = value.strip()
        if not trimmed:
            raise ValueError("must not be empty")
        if len(trimmed) > _MESSAGE_CHARACTERS:
            raise ValueError(f"has {len(trimmed)} characters, takes {_MESSAGE_CHARACTERS} at most")
        return trimmed

    @field_validator("message_type")
    @classmethod
    def _audio_is_a_url(cls, value: MessageType | None, info: ValidationInfo) -> MessageType | None:
        message = info.data.get("message")  # None: it was refused already
        if value == "audio" and message is not None and not _is_http_url(message):
            raise ValueError("is audio, so message takes the http or https URL of the recording")
        return value

    @field_validator("callback_url")
    @classmethod
    def _callback_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        callbacks = _rules(info).callbacks
        try:
            # Only the text is checked. Host names are resolved at each delivery: an address from now would be stale.
            Target.parse(value, callbacks).check_literal_address(callbacks)
        except OutboundRefused as error:
            raise ValueError(f"is not a URL that callbacks may go to: {error}") from error
        return value


def parse_webhook(body: bytes, rules: RequestRules) -> WebhookRequest:
    """The message in a body. Raises HttpError 400 that names each wrong field."""
    return parse_request(WebhookRequest, body, rules)


def parse_request(kind: type[RequestT], body: bytes, rules: RequestRules) -> RequestT:
    """The request of this kind in a body. Raises HttpError 400 that names each wrong field."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid(f"The body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    if not isinstance(fields, dict):
        raise _invalid("The body must be a JSON object")
    try:
        return kind.model_validate(fields, context=rules)
    except ValidationError as error:
        details = [FieldError(_path(found["loc"]), _words(found["msg"])) for found in error.errors(include_url=False)]
        first = details[0]
        raise _invalid(f"{first.field}: {first.message}", details) from error


def _invalid(message: str, details: list[FieldError] | None = None) -> HttpError:
    return HttpError(400, ErrorBody("Invalid request", message, details or ()))


def _rules(info: ValidationInfo) -> RequestRules:
    assert isinstance(info.context, RequestRules), "validate with RequestRules as context"
    return info.context


def _is_http_url(text: str) -> bool:
    if any(character.isspace() for character in text):
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)) or "body"


def _words(message: str) -> str:
    return message.removeprefix("Value error, ")

"""The OpenAPI description of a service, made from the models that validate its requests and build its answers.

Each service describes its operations beside its routes; the wiring puts them together, for one service or for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from eai_common.content import CLEAN_CHARACTER

__all__ = [
    "CLEAN_FIELDS",
    "CLEAN_TEXT",
    "COMMON_ERRORS",
    "RETRY_AFTER",
    "Answer",
    "ErrorAnswer",
    "Header",
    "Operation",
    "RateLimitAnswer",
    "Schema",
    "describe_api",
    "format_status",
]

Schema = dict[str, Any]
"""A piece of JSON Schema or OpenAPI: JSON, of a shape that only their specifications know."""

_REF = "#/components/schemas/{model}"


class FieldErrorAnswer(BaseModel):
    """What is wrong with one field."""

    field: str = Field(examples=["user_number"])
    message: str


class ErrorAnswer(BaseModel):
    """Every error is answered with this."""

    error: str = Field(description="What kind of error, in a few stable words.", examples=["Invalid request"])
    message: str = Field(description="What was expected, what came and what to do.")
    details: list[FieldErrorAnswer] | None = Field(default=None, description="Each wrong field, when fields are wrong.")
    request_id: str | None = Field(default=None, description="The same as the header X-Request-ID.")


class RateLimitAnswer(ErrorAnswer):
    """The caller has sent too many requests."""

    retry_after: int = Field(description="Seconds until it is worth trying again.", ge=0)
    limit: int | None = None
    window: str | None = Field(default=None, examples=["1 minute"])


CLEAN_TEXT = f"^{CLEAN_CHARACTER}*$"
"""The pattern of a text without control characters."""
_CLEAN_REF = {"$ref": _REF.format(model="CleanJson")}
CLEAN_FIELDS: Schema = {"propertyNames": {"pattern": CLEAN_TEXT}, "additionalProperties": _CLEAN_REF}
"""What an object says of fields that are not named: any JSON, all its texts without control characters."""
_CLEAN_JSON: Schema = {
    "description": "Any JSON; its texts have no control characters.",
    "anyOf": [
        {"type": ["null", "boolean", "number"]},
        {"type": "string", "pattern": CLEAN_TEXT},
        {"type": "array", "items": _CLEAN_REF},
        {"type": "object", **CLEAN_FIELDS},
    ],
}


@dataclass(frozen=True, slots=True)
class Header:
    """A header of a request or an answer."""

    name: str
    description: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    is_required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes with one status code. Without a `model` there is no body; `events` says that it may be a stream."""

    description: str
    model: type[BaseModel] | None = None
    headers: Sequence[Header] = ()
    examples: Mapping[str, Schema] = field(default_factory=dict)
    events: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `role` is who may call it, None for everybody.

    `settled` is what the settings say of fields of `query` and `body`: it goes into the fields' own schemas.
    """

    method: str
    path: str
    name: str
    summary: str
    description: str
    answers: Mapping[int, Answer]
    role: str | None = None
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    body_examples: Mapping[str, Schema] = field(default_factory=dict)
    headers: Sequence[Header] = ()
    settled: Mapping[str, Schema] = field(default_factory=dict)
    tag: str = "messages"


RETRY_AFTER = Header("Retry-After", "Seconds until it is worth asking again.", {"type": "integer", "minimum": 0}, True)
_REQUEST_ID = Header("X-Request-ID", "The request's id: the caller's own, or a new one.", is_required=True)
_RATE_LIMIT = tuple(
    Header(f"X-RateLimit-{name}", words, {"type": "integer"})
    for name, words in (
        ("Limit", "Requests that the caller may make in the window."),
        ("Remaining", "How many of them are left."),
        ("Reset", "When the window is free again."),
    )
)
_WHO = (Header("WWW-Authenticate", "How to say who calls.", is_required=True),)


def _error(description: str, *headers: Header, model: type[BaseModel] = ErrorAnswer) -> Answer:
    return Answer(description, model, headers)


COMMON_ERRORS: Mapping[int, Answer] = {
    400: _error("The request is invalid. `details` names each wrong field."),
    401: _error("Credentials are missing, wrong or expired.", *_WHO),
    403: _error("The role does not allow this, or the client address is not allowed."),
    404: _error("Not found."),
    405: _error("Method not allowed.", Header("Allow", "The allowed methods.", is_required=True)),
    408: _error("The request body did not arrive in time."),
    410: _error("The result has expired."),
    413: _error("The request body is too large."),
    415: _error("Unsupported media type."),
    422: _error("The Idempotency-Key was used with another body."),
    429: _error("Too many requests.", RETRY_AFTER, model=RateLimitAnswer),
    500: _error("Internal error. It was logged."),
    503: _error("Temporarily unavailable. Nothing was accepted or lost.", RETRY_AFTER),
}
"""What an operation can name by its code."""


def describe_api(
    operations: Sequence[Operation], *, title: str, version: str, description: str, has_auth: bool
) -> Schema:
    """The OpenAPI 3.1 document of the operations."""
    paths: dict[str, Schema] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, has_auth=has_auth)
    components: Schema = {"schemas": _schemas(operations)}
    if has_auth:
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer", "description": "An API token, or a JWT with a role."},
            "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API token."},
        }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": description},
        "paths": paths,
        "components": components,
    }


def _operation(operation: Operation, *, has_auth: bool) -> Schema:
    described: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": operation.description,
        "tags": [operation.tag],
        "parameters": [*_query_parameters(operation), *map(_request_header, operation.headers)],
        "responses": {str(code): _response(answer) for code, answer in sorted(operation.answers.items())},
    }
    if operation.body is not None:
        content: Schema = {"schema": _ref(operation.body)}
        if operation.body_examples:
            content["examples"] = {name: {"value": value} for name, value in operation.body_examples.items()}
        described["requestBody"] = {"required": True, "content": {"application/json": content}}
    if has_auth and operation.role is not None:
        described["security"] = [{"bearer": []}, {"apiKey": []}]
        described["description"] += f"\n\nRole: `{operation.role}`."
    return described


def _query_parameters(operation: Operation) -> list[Schema]:
    if operation.query is None:
        return []
    schema = operation.query.model_json_schema()
    required = schema.get("required", ())
    return [
        _query_parameter(name, {**own, **operation.settled.get(name, {})}, is_required=name in required)
        for name, own in schema["properties"].items()
    ]


def _query_parameter(name: str, schema: Schema, *, is_required: bool) -> Schema:
    own = {key: value for key, value in schema.items() if key not in ("title", "description", "examples")}
    parameter = {
        "name": name,
        "in": "query",
        "required": is_required,
        "description": schema.get("description", ""),
        "schema": own,
    }
    if examples := schema.get("examples"):
        parameter["example"] = examples[0]
    return parameter


def _request_header(header: Header) -> Schema:
    return {"name": header.name, "in": "header", **_header(header)}


def _header(header: Header) -> Schema:
    return {"description": header.description, "required": header.is_required, "schema": header.schema}


def _response(answer: Answer) -> Schema:
    headers = (_REQUEST_ID, *_RATE_LIMIT, *answer.headers)
    response: Schema = {
        "description": answer.description,
        "headers": {header.name: _header(header) for header in headers},
    }
    content: Schema = {}
    if answer.model is not None:
        content["application/json"] = {"schema": _ref(answer.model)}
    if answer.examples:
        content["application/json"]["examples"] = {name: {"value": value} for name, value in answer.examples.items()}
    if answer.events:
        content["text/event-stream"] = {"schema": {"type": "string", "description": answer.events}}
    return {**response, "content": content} if content else response


def _ref(model: type[BaseModel]) -> Schema:
    return {"$ref": _REF.format(model=model.__name__)}


def _schemas(operations: Sequence[Operation]) -> Schema:
    bodies = {operation.body for operation in operations if operation.body is not None}
    answers = {answer.model for one in operations for answer in one.answers.values() if answer.model is not None}
    named = [(model, "validation") for model in _by_name(bodies)] + [
        (model, "serialization") for model in _by_name(answers)
    ]
    _, schemas = models_json_schema(named, ref_template=_REF, by_alias=True)  # type: ignore[arg-type]
    found: Schema = {**schemas.get("$defs", {}), "CleanJson": _CLEAN_JSON}
    for operation in operations:
        if operation.body is not None:
            properties = found[operation.body.__name__]["properties"]
            for name, settled in operation.settled.items():
                properties[name] = {**properties[name], **settled}
    return found


def _by_name(models: set[type[BaseModel]]) -> list[type[BaseModel]]:
    return sorted(models, key=lambda model: model.__name__)


def format_status(code: int) -> str:
    """A status code with its words."""
    return f"{code} {HTTPStatus(code).phrase}"

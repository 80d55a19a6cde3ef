"""The query parameters of each route, validated by the models that also describe them."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from starlette.requests import Request

from eai_common.http import ErrorBody, HttpError
from eai_common.http.errors import FieldError
from eai_common.user_numbers import USER_NUMBER_PATTERN, canonical_user_number

__all__ = ["LONGEST_WAIT_S", "ActivityQuery", "MessageQuery", "ResponseQuery", "parse_query"]

LONGEST_WAIT_S = 30
_WHOLE = re.compile(r"[0-9]{1,9}")
QueryT = TypeVar("QueryT", bound=BaseModel)


def _whole_number(given: object) -> object:
    if not isinstance(given, str) or not _WHOLE.fullmatch(given):
        raise ValueError("takes a whole number")
    return int(given)


class MessageQuery(BaseModel):
    """Identifies the message."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    message_id: UUID = Field(description="The id from the webhook's answer.")


class ResponseQuery(MessageQuery):
    """Identifies the message, and says how long to wait for its result."""

    wait: Annotated[int, BeforeValidator(_whole_number)] = Field(
        default=0,
        ge=0,
        le=LONGEST_WAIT_S,
        description="Long poll: seconds to wait for the result before answering 202.",
    )


class ActivityQuery(BaseModel):
    """Identifies the user."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    user_number: str = Field(
        description="E.164, with or without the leading +.",
        examples=["+5521999999999"],
        json_schema_extra={"pattern": USER_NUMBER_PATTERN},
    )

    @field_validator("user_number")
    @classmethod
    def _canonical(cls, value: str, info: ValidationInfo) -> str:
        # An unescaped + in a query string means a space.
        number = f"+{value[1:]}" if value.startswith(" ") else value
        return canonical_user_number(number, opaque_allowed=bool(info.context))


def parse_query(model: type[QueryT], request: Request, *, context: object = None) -> QueryT:
    """The request's parameters. Raises HttpError 400 that names each wrong parameter."""
    given = request.query_params
    for name in model.model_fields:
        if len(given.getlist(name)) > 1:
            raise _invalid([FieldError(name, "is given more than once")])
    try:
        return model.model_validate(dict(given), context=context)
    except ValidationError as error:
        raise _invalid([_detail(found) for found in error.errors(include_url=False)]) from error


def _detail(found: object) -> FieldError:
    assert isinstance(found, dict)
    name = ".".join(map(str, found["loc"]))
    words = {"missing": "is required", "uuid_parsing": "takes a UUID"}.get(found["type"])
    return FieldError(name, words or str(found["msg"]).removeprefix("Value error, "))


def _invalid(details: list[FieldError]) -> HttpError:
    return HttpError(400, ErrorBody("Invalid request", f"{details[0].field}: {details[0].message}", tuple(details)))

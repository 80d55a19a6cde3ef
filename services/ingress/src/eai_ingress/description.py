"""The API description of ingress' routes: its part of `/openapi.json`."""

from __future__ import annotations

from eai_common.http.openapi import COMMON_ERRORS, Answer, Header, Operation, Schema
from eai_common.results import ResultAnswer
from eai_common.user_numbers import OPAQUE_USER_NUMBER_PATTERN
from eai_ingress.bodies import AcceptedAnswer
from eai_ingress.history import HistoryRequest
from eai_ingress.request import RequestRules, WebhookRequest

__all__ = ["ingress_operations"]

_USUAL = (400, 401, 403, 405, 408, 413, 415, 429, 500, 503)
_IDEMPOTENCY_KEY = Header(
    "Idempotency-Key",
    "The same key and body within 24 hours return the first answer again, with `Idempotent-Replayed: true`.",
    {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"},
)
_HEADERS = (
    Header("X-Request-ID", "The caller's id for this request, up to 128 printable ASCII characters."),
    Header("traceparent", "The caller's trace, which the message continues (W3C Trace Context)."),
)
_ACCEPTED_HEADERS = (
    Header("Location", "The same as `polling_endpoint`.", is_required=True),
    Header("Idempotent-Replayed", "`true` when this repeats the first answer."),
)
_MESSAGE_ID = "019b7f3e-6a10-7cc1-a3c4-5d2f8e1b9a70"
_TEXT = {"user_number": "+5521999999999", "message": "Qual o horário do posto de saúde?"}
_AUDIO = {"user_number": "5521999999999", "message": "https://storage.example.com/voz.ogg", "message_type": "audio"}
_PAST = {
    "user_number": "+5521999999999",
    "messages": [
        {"content": "Quero vacinar meu filho", "role": "human"},
        {"content": "Leve-o ao posto mais próximo.", "role": "ai"},
    ],
}
_ACCEPTED = AcceptedAnswer(
    message_id=_MESSAGE_ID,
    status="queued",
    estimated_wait_time="2-5 seconds",
    polling_endpoint=f"/api/v1/message/response?message_id={_MESSAGE_ID}",
)


def ingress_operations(rules: RequestRules, *, like_predecessor: bool) -> list[Operation]:
    """The operations with these settings."""
    return [_user_message(rules, like_predecessor=like_predecessor), _history(rules, like_predecessor=like_predecessor)]


def _user_message(rules: RequestRules, *, like_predecessor: bool) -> Operation:
    return Operation(
        method="POST",
        path="/api/v1/message/webhook/user",
        name="postUserMessage",
        summary="Send a user's message",
        description="Text, or the URL of a recording. The messages of one user are answered in the order of their "
        "acceptance. A 503 accepts nothing: send the message again after `Retry-After`.",
        role="message_sender",
        body=WebhookRequest,
        body_examples={"text": _TEXT, "audio": _AUDIO},
        headers=(_IDEMPOTENCY_KEY, *_HEADERS),
        settled=_settled(rules),
        answers={**_accepted(like_predecessor=like_predecessor), **_errors(*_USUAL, 422)},
    )


def _history(rules: RequestRules, *, like_predecessor: bool) -> Operation:
    return Operation(
        method="POST",
        path="/api/v1/message/webhook/update_history",
        name="postHistory",
        summary="Put messages of another conversation into a user's thread",
        description="Returns the engine's answer. If that takes long, returns the id to fetch it by, as for a user's "
        "message.",
        role="message_sender",
        body=HistoryRequest,
        body_examples={"history": _PAST},
        headers=_HEADERS,
        settled=_settled(rules),
        answers={
            200: Answer("The engine answered or refused.", ResultAnswer),
            **_accepted(like_predecessor=like_predecessor),
            **_errors(*_USUAL),
        },
    )


def _accepted(*, like_predecessor: bool) -> dict[int, Answer]:
    example = _ACCEPTED.model_copy(update={"status": "processing"}) if like_predecessor else _ACCEPTED
    answer = Answer(
        "Accepted: the message cannot be lost.",
        AcceptedAnswer,
        _ACCEPTED_HEADERS,
        {"accepted": example.model_dump()},
    )
    return {201 if like_predecessor else 202: answer}


def _errors(*codes: int) -> dict[int, Answer]:
    return {code: COMMON_ERRORS[code] for code in codes}


def _settled(rules: RequestRules) -> dict[str, Schema]:
    known: Schema = {"anyOf": [{"enum": sorted(rules.providers)}, {"type": "null"}]}
    opaque: Schema = {"pattern": OPAQUE_USER_NUMBER_PATTERN}
    return {"provider": known, **({"user_number": opaque} if rules.opaque_user_numbers else {})}

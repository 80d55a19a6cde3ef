"""The webhook over HTTP."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eai_common.broker import BrokerUnavailable
from eai_common.http import ErrorBody, HttpError, Role, caller, json_response, require
from eai_common.http.errors import FieldError
from eai_common.http.limits import SelfLimitedRoute, pending_limit
from eai_ingress.acceptance import Acceptance, Accepted, IdempotencyKey, KeyConflict, Limit
from eai_ingress.request import Rules, WebhookRequest, parse_webhook

__all__ = ["Webhook", "accepted_answer", "acceptance_errors", "refusals_counted", "require_json"]

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Webhook:
    """POST /api/v1/message/webhook/user."""

    acceptance: Acceptance
    rules: Rules
    answers_like_predecessor: bool

    def routes(self) -> list[Route]:
        return [SelfLimitedRoute("/api/v1/message/webhook/user", self.post_user_message, methods=["POST"])]

    async def post_user_message(self, request: Request) -> Response:
        """Accept one message. Answers 202, or 201 to the predecessor's clients."""
        limit = pending_limit(request)
        async with refusals_counted(self.acceptance, limit):
            message, key = await self._read(request)
        with acceptance_errors():
            accepted = await self.acceptance.accept(message, key, limit)
        return accepted_answer(accepted, like_predecessor=self.answers_like_predecessor)

    async def _read(self, request: Request) -> tuple[WebhookRequest, IdempotencyKey | None]:
        require(request, Role.MESSAGE_SENDER)
        require_json(request)
        key = _idempotency_key(request)
        body = await request.body()
        message = parse_webhook(body, self.rules)
        return message, None if key is None else _for_request(key, request, body)


@asynccontextmanager
async def refusals_counted(acceptance: Acceptance, limit: Limit | None) -> AsyncIterator[None]:
    """What is refused counts against the limit too, or nothing would slow down whoever guesses tokens."""
    try:
        yield
    except HttpError:
        await acceptance.count(limit)
        raise


@contextmanager
def acceptance_errors() -> Iterator[None]:
    """What accepting may raise, as HttpError."""
    try:
        yield
    except BrokerUnavailable as error:
        raise _try_again_later(error) from error
    except KeyConflict as error:
        raise _key_was_used() from error


def accepted_answer(accepted: Accepted, *, like_predecessor: bool) -> Response:
    """202, or 201 for the predecessor's clients."""
    promise = accepted.promise
    polling_endpoint = f"/api/v1/message/response?message_id={promise.message_id}"
    body = {
        "message_id": promise.message_id,
        "status": "processing" if like_predecessor else "queued",
        "estimated_wait_time": promise.estimate,
        "polling_endpoint": polling_endpoint,
    }
    headers = {"Location": polling_endpoint}
    if accepted.is_replay:
        headers["Idempotent-Replayed"] = "true"
    return json_response(body, 201 if like_predecessor else 202, headers)


def require_json(request: Request) -> None:
    """Raises HttpError 415."""
    given = request.headers.get("content-type", "")
    media_type, _, _ = given.partition(";")
    if media_type.strip().lower() != "application/json":
        body = ErrorBody("Unsupported media type", f'Content-Type is "{given[:100]}", takes application/json')
        raise HttpError(415, body)


def _try_again_later(error: BrokerUnavailable) -> HttpError:
    """503, with how long to wait."""
    body = ErrorBody("Service unavailable", "The message was not accepted; please send it again in a few seconds")
    return HttpError(503, body, headers={"Retry-After": str(math.ceil(error.delay.total_seconds()))})


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        details = [FieldError("Idempotency-Key", "takes 1 to 255 visible ASCII characters")]
        raise HttpError(400, ErrorBody("Invalid request", f"Idempotency-Key: {details[0].message}", details))
    return key


def _for_request(key: str, request: Request, body: bytes) -> IdempotencyKey:
    """The key as the client's own. The same JSON is the same request, however it is written."""
    meaning = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    # Of a fixed length and without a colon, so that no client's key can run into another's.
    client = hashlib.sha256(caller(request).key.encode()).hexdigest()[:32]
    return IdempotencyKey(client, key, hashlib.sha256(meaning).hexdigest())


def _key_was_used() -> HttpError:
    body = ErrorBody("Idempotency key reused", "This Idempotency-Key was used within 24 hours for another request")
    return HttpError(422, body)

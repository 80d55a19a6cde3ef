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
from eai_common.http.limits import SelfLimitedRoute, get_pending_limit
from eai_common.messages import Event
from eai_ingress.acceptance import Acceptance, Accepted, IdempotencyKey, KeyConflict, Limit
from eai_ingress.channel import ChannelAdapter

__all__ = ["Webhook", "accepted_response", "acceptance_errors_as_http", "count_refusals", "require_json"]

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Webhook:
    """POST /api/v1/message/webhook/user."""

    acceptance: Acceptance
    channel: ChannelAdapter
    answers_like_predecessor: bool

    def routes(self) -> list[Route]:
        return [SelfLimitedRoute("/api/v1/message/webhook/user", self.post_user_message, methods=["POST"])]

    async def post_user_message(self, request: Request) -> Response:
        """Accept one message. Answers 202, or 201 to clients of the predecessor."""
        limit = get_pending_limit(request)
        async with count_refusals(self.acceptance, limit):
            event, key = await self._read(request)
        with acceptance_errors_as_http():
            accepted = await self.acceptance.accept(event, key, limit)
        return accepted_response(accepted, like_predecessor=self.answers_like_predecessor)

    async def _read(self, request: Request) -> tuple[Event, IdempotencyKey | None]:
        require(request, Role.MESSAGE_SENDER)
        require_json(request)
        key = _idempotency_key(request)
        body = await request.body()
        event = self.channel.first_event(body)
        return event, None if key is None else _key_of(key, request, body)


@asynccontextmanager
async def count_refusals(acceptance: Acceptance, limit: Limit | None) -> AsyncIterator[None]:
    """Count a refused request against the limit too; else nothing would slow down a client that guesses tokens."""
    try:
        yield
    except HttpError:
        await acceptance.count(limit)
        raise


@contextmanager
def acceptance_errors_as_http() -> Iterator[None]:
    """Raises HttpError for what `Acceptance.accept` raises."""
    try:
        yield
    except BrokerUnavailable as error:
        raise _unavailable(error) from error
    except KeyConflict as error:
        raise _key_conflict() from error


def accepted_response(accepted: Accepted, *, like_predecessor: bool) -> Response:
    """202, or 201 for clients of the predecessor."""
    receipt = accepted.receipt
    polling_endpoint = f"/api/v1/message/response?message_id={receipt.message_id}"
    body = {
        "message_id": receipt.message_id,
        "status": "processing" if like_predecessor else "queued",
        "estimated_wait_time": receipt.estimate,
        "polling_endpoint": polling_endpoint,
    }
    headers = {"Location": polling_endpoint}
    if accepted.is_replay:
        headers["Idempotent-Replayed"] = "true"
    return json_response(body, 201 if like_predecessor else 202, headers)


def require_json(request: Request) -> None:
    """Raises HttpError 415 for a body that is not declared as JSON."""
    given = request.headers.get("content-type", "")
    media_type, _, _ = given.partition(";")
    if media_type.strip().lower() != "application/json":
        body = ErrorBody("Unsupported media type", f'Content-Type is "{given[:100]}"; use application/json')
        raise HttpError(415, body)


def _unavailable(error: BrokerUnavailable) -> HttpError:
    body = ErrorBody("Service unavailable", "The message was not accepted. Send it again after Retry-After")
    return HttpError(503, body, headers={"Retry-After": str(math.ceil(error.delay.total_seconds()))})


def _idempotency_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        details = [FieldError("Idempotency-Key", "takes 1 to 255 visible ASCII characters")]
        raise HttpError(400, ErrorBody("Invalid request", f"Idempotency-Key: {details[0].message}", details))
    return key


def _key_of(key: str, request: Request, body: bytes) -> IdempotencyKey:
    """The key, made the client's own. Equal JSON is the same request, whatever its spelling."""
    meaning = orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
    # A fixed length without a colon, so that no two clients share a key in Redis.
    client = hashlib.sha256(caller(request).key.encode()).hexdigest()[:32]
    return IdempotencyKey(client, key, hashlib.sha256(meaning).hexdigest())


def _key_conflict() -> HttpError:
    body = ErrorBody("Idempotency key reused", "This Idempotency-Key was used for another request in the last 24 hours")
    return HttpError(422, body)

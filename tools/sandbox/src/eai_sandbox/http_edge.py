"""What all HTTP routes share: bounded bodies, tokens, errors in the service's own shape, cancellation on disconnect."""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from eai_sandbox.jsontype import Json
from eai_sandbox.refusal import Refused

__all__ = ["Answer", "ReceivedRequest", "Endpoint", "detail_error", "endpoint", "google_error", "openai_error", "parse"]

_MAX_BODY_BYTES = 32 * 1024 * 1024
_MALFORMED = b'{"output": {"messages": [{"type": "ai", "content": "Ol'  # JSON cut off in the middle

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request whose body was read."""

    request: Request
    body: bytes

    def path(self, name: str) -> str:
        """A parameter of the route."""
        return str(self.request.path_params[name])


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answers."""

    body: Json
    is_malformed: bool = False  # send unreadable JSON instead
    status: int = HTTPStatus.OK


_Handle = Callable[[ReceivedRequest], Awaitable[Answer]]
_ErrorBody = Callable[[Refused], Json]
Endpoint = Callable[[Request], Awaitable[Response]]


def endpoint(handle: _Handle, error_body: _ErrorBody, *, token: str | None = None) -> Endpoint:
    """Wrap a handler as a route; `token` is the Bearer token that it requires, None requires none."""

    async def answer(request: Request) -> Response:
        try:
            _check_token(request, token)
            body = await _read(request)
            return _response(await _cancel_on_disconnect(request, handle(ReceivedRequest(request, body))))
        except Refused as refusal:
            return _error_response(refusal, error_body)

    return answer


def parse(model: type[_Model], body: bytes) -> _Model:
    """Read a JSON body. Raises Refused, which names every invalid field."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Refused(f"Invalid request: {problems}", status=HTTPStatus.UNPROCESSABLE_ENTITY) from error


def google_error(refusal: Refused) -> Json:
    """The error shape of Google's REST APIs (source: google.rpc.Status in JSON, AIP-193)."""
    details: list[Json] = []
    if refusal.retry_after_s is not None:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        details.append({"@type": kind, "retryDelay": f"{refusal.retry_after_s:g}s"})
    code = HTTPStatus.BAD_REQUEST if refusal.google_status == "INVALID_ARGUMENT" else refusal.status
    return {"error": {"code": code, "message": refusal.text, "status": refusal.google_status, "details": details}}


def detail_error(refusal: Refused) -> Json:
    """The error shape of FastAPI, which the EAI Agent Service and Letta use."""
    return {"detail": refusal.text}


def openai_error(refusal: Refused) -> Json:
    """The error shape of OpenAI's API."""
    kind = "invalid_request_error" if refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"
    return {"error": {"message": refusal.text, "type": kind, "param": None, "code": None}}


def _check_token(request: Request, token: str | None) -> None:
    if token is None:
        return
    given = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(given, f"Bearer {token}".encode()):
        raise Refused("Invalid or missing authentication token", status=HTTPStatus.UNAUTHORIZED)


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise Refused(
                f"The body is larger than {_MAX_BODY_BYTES} bytes.", status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            )
    return bytes(body)


async def _cancel_on_disconnect(request: Request, work: Awaitable[Answer]) -> Answer:
    """Cancel the work when the client disconnects, as gRPC does."""
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(request.receive())  # the body is read, so only a disconnect can come
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise Refused("the client left", status=499)
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


def _response(answer: Answer) -> Response:
    if answer.is_malformed:
        return Response(_MALFORMED, media_type="application/json")
    return JSONResponse(answer.body, status_code=answer.status)


def _error_response(refusal: Refused, error_body: _ErrorBody) -> Response:
    headers = {} if refusal.retry_after_s is None else {"Retry-After": str(math.ceil(refusal.retry_after_s))}
    status = refusal.status
    if error_body is google_error and refusal.google_status == "INVALID_ARGUMENT":
        status = HTTPStatus.BAD_REQUEST
    return JSONResponse(error_body(refusal), status_code=status, headers=headers)

"""The poller's routes: the answer to a message, a user's last activity, and an operator's view of a message."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from eai_common.http import ErrorBody, HttpError, Role, json_response, require
from eai_common.messages import rfc3339
from eai_common.store import ActivityStore, StoreUnavailable
from eai_poller.answer import Answer, State
from eai_poller.bodies import ActivityAnswer, ProcessingAnswer
from eai_poller.events import RESULT_ID, EventStream
from eai_poller.lookup import Lookup
from eai_poller.poll_interval import PollInterval
from eai_poller.query import ActivityQuery, MessageQuery, ResponseQuery, parse_query
from eai_poller.timeline import task_report
from eai_poller.wait_limit import WaitLimit

__all__ = ["PollerRoutes"]

_RETRY_AFTER_S = 5
_FRESH = {"Cache-Control": "no-store", "Vary": "Accept"}
_LAST_SEEN_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class PollerRoutes:
    """The handlers of the routes."""

    lookup: Lookup
    wait_limit: WaitLimit
    poll_interval: PollInterval
    activity: ActivityStore
    opaque_user_numbers: bool
    heartbeat: timedelta

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/message/response", self.get_response, methods=["GET"]),
            Route("/api/v1/message/last-activity", self.get_last_activity, methods=["GET"]),
            Route("/api/v1/message/debug/task-status", self.get_task_status, methods=["GET"]),
        ]

    async def get_response(self, request: Request) -> Response | ASGIApp:
        """Return the answer to a message: at once, after a wait, or as a stream."""
        require(request, Role.READ_ONLY)
        query = parse_query(ResponseQuery, request)
        with _store_errors_as_http():
            if request.method == "GET" and wants_events(request):
                return await self._stream(request, query.message_id)
            answer = await self._answer(request, query)
        return await self._response(answer)

    async def get_last_activity(self, request: Request) -> Response:
        """Return when a user last wrote. Raises HttpError if that is not known."""
        require(request, Role.READ_ONLY)
        user_number = parse_query(ActivityQuery, request, context=self.opaque_user_numbers).user_number
        with _store_errors_as_http():
            found = await self.activity.read(user_number)
        if found is None:
            raise HttpError(404, ErrorBody("No message history found", "No message of this user is known"))
        return _model_response(
            ActivityAnswer(
                user_number=user_number,
                last_message_timestamp=rfc3339(found.at),
                ttl_seconds=found.kept_for // timedelta(seconds=1),
            )
        )

    async def get_task_status(self, request: Request) -> Response:
        """Return an operator's view of a message, for as long as its status is kept."""
        require(request, Role.ADMIN)
        message_id = parse_query(MessageQuery, request).message_id
        with _store_errors_as_http():
            status = (await self.lookup.view(message_id)).status
        if status is None:
            raise _never_seen()
        return _model_response(task_report(str(message_id), status))

    async def _answer(self, request: Request, query: ResponseQuery) -> Answer:
        if query.wait == 0 or request.method != "GET":
            return await self.lookup.answer(query.message_id)
        return await self.wait_limit.final_answer(query.message_id, timedelta(seconds=query.wait), request.receive)

    async def _stream(self, request: Request, message_id: UUID) -> Response | ASGIApp:
        first = await self.lookup.answer(message_id)
        last_seen = request.headers.get("last-event-id", "")[:_LAST_SEEN_CHARACTERS]
        if first.state in (State.EXPIRED, State.NEVER_SEEN):
            return await self._response(first)
        if last_seen == RESULT_ID:
            # Browsers reconnect after each end; only a 204 stops them (source: HTML standard, section 9.2.3).
            return Response(status_code=204, headers=_FRESH)
        return EventStream(self.wait_limit, message_id, first, last_seen, self.heartbeat)

    async def _response(self, answer: Answer) -> Response:
        match answer.state:
            case State.FINISHED:
                return json_response(answer.result, headers=_FRESH)
            case State.PROCESSING:
                retry_after = {"Retry-After": str(await self.poll_interval.retry_after_s(answer))}
                return _model_response(ProcessingAnswer(stage=answer.stage), 202, retry_after)
            case State.EXPIRED:
                raise _expired()
            case State.NEVER_SEEN:
                raise _never_seen()


def wants_events(request: Request) -> bool:
    """Whether the client prefers an event stream to JSON, or accepts nothing else."""
    qualities = {"text/event-stream": 0.0, "application/json": 0.0}
    for item in request.headers.get("accept", "").split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name in qualities:
            qualities[name] = _quality(parameters)
    return qualities["text/event-stream"] > 0 and qualities["text/event-stream"] >= qualities["application/json"]


def _quality(parameters: list[str]) -> float:
    """The weight of a media type (source: RFC 9110, section 12.4.2). A malformed one counts as absent."""
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter.removeprefix("q="))
            except ValueError:
                return 1.0
    return 1.0


def _model_response(body: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return json_response(body.model_dump_json(by_alias=True).encode(), status, {**_FRESH, **(headers or {})})


@contextmanager
def _store_errors_as_http() -> Iterator[None]:
    try:
        yield
    except StoreUnavailable as error:
        body = ErrorBody("Service unavailable", "Results cannot be read at the moment. Try again after Retry-After")
        raise HttpError(503, body, headers={"Retry-After": str(_RETRY_AFTER_S)}) from error


def _expired() -> HttpError:
    return HttpError(410, ErrorBody("Result expired", "The message was answered, but its result has expired"))


def _never_seen() -> HttpError:
    return HttpError(404, ErrorBody("Task not found", "No task found with the provided message ID"))

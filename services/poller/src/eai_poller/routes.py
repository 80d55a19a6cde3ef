"""The poll over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eai_common.clock import Clock
from eai_common.http import ErrorBody, HttpError, TokenGuard, json_response
from eai_common.ids import issued_at
from eai_common.store import StoreUnavailable, TaskStore, TaskView
from eai_poller.answer import Answer, State, answer_for
from eai_poller.timeline import task_report

__all__ = ["Poll"]

_POLL_AGAIN_S = 1
_STORE_RETRY_S = 5


@dataclass(frozen=True, slots=True)
class Poll:
    """GET /api/v1/message/response and debug/task-status."""

    tasks: TaskStore
    clock: Clock
    guard: TokenGuard
    id_key: bytes
    known_for: timedelta

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/message/response", self.get_response, methods=["GET"]),
            Route("/api/v1/message/debug/task-status", self.get_task_status, methods=["GET"]),
        ]

    async def get_response(self, request: Request) -> Response:
        """What has become of a message."""
        self.guard.check(request)
        message_id = _message_id(request)
        view = await self._view(message_id)
        answer = answer_for(
            view, issued_at=issued_at(message_id, self.id_key), now=self.clock.now(), known_for=self.known_for
        )
        return _response(answer)

    async def get_task_status(self, request: Request) -> Response:
        """What an operator wants to know of a message, for as long as its status is kept."""
        self.guard.check(request)
        message_id = str(_message_id(request))
        status = (await self._view(UUID(message_id))).status
        if status is None:
            raise _never_seen()
        return json_response(task_report(message_id, status))

    async def _view(self, message_id: UUID) -> TaskView:
        try:
            return await self.tasks.read(str(message_id))
        except StoreUnavailable as error:
            raise _store_down() from error


def _message_id(request: Request) -> UUID:
    given = request.query_params.get("message_id")
    if given is None:
        raise HttpError(400, ErrorBody("Invalid request", "message_id: is required"))
    try:
        return UUID(given)
    except ValueError as error:
        raise HttpError(400, ErrorBody("Invalid request", "message_id: takes a UUID")) from error


def _response(answer: Answer) -> Response:
    match answer.state:
        case State.FINISHED:
            return json_response(answer.result)
        case State.PROCESSING:
            body = {"status": "processing", "message": "Your message is being processed", "stage": answer.stage}
            return json_response(body, 202, {"Retry-After": str(_POLL_AGAIN_S)})
        case State.EXPIRED:
            raise HttpError(
                410, ErrorBody("Result expired", "The message was answered, but its result is no longer kept")
            )
        case State.NEVER_SEEN:
            raise _never_seen()


def _never_seen() -> HttpError:
    return HttpError(404, ErrorBody("Task not found", "No task found with the provided message ID"))


def _store_down() -> HttpError:
    body = ErrorBody("Service unavailable", "Results cannot be looked up at the moment; please ask again")
    return HttpError(503, body, headers={"Retry-After": str(_STORE_RETRY_S)})

"""Messages of a conversation that took place elsewhere, put into a user's thread."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eai_common.clock import Deadline
from eai_common.errors import Unavailable
from eai_common.http import Role, json_response, require
from eai_common.http.limits import SelfLimitedRoute, pending_limit
from eai_common.http.openapi import CLEAN_FIELDS, CLEAN_TEXT
from eai_common.messages import HistoryMessage, HistoryUpdate
from eai_common.store import TaskView, Wakeups, Watch
from eai_common.telemetry import trace_headers
from eai_ingress.acceptance import Acceptance
from eai_ingress.request import ClientData, EngineId, Provider, Rules, UserNumber, UserRequest, parse_request
from eai_ingress.routes import acceptance_errors, accepted_answer, refusals_counted, require_json

__all__ = ["HistoryRequest", "HistoryWebhook", "Results"]

_LOOK_AGAIN_S = 5.0  # for when a wake-up was lost


class PastMessage(BaseModel):
    """What one side said."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, json_schema_extra=CLEAN_FIELDS)

    content: Annotated[str, Field(min_length=1, max_length=16_384, json_schema_extra={"pattern": CLEAN_TEXT})]
    role: Literal["human", "ai"]


class HistoryRequest(UserRequest):
    """Messages for a user's thread, oldest first."""

    user_number: UserNumber
    messages: Annotated[list[PastMessage], Field(min_length=1, max_length=200)]
    metadata: ClientData | None = None
    provider: Provider | None = None
    reasoning_engine_id: EngineId | None = None


class Results(Protocol):
    """Where the pipeline's answer appears."""

    async def read(self, message_id: str) -> TaskView:
        """Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class HistoryWebhook:
    """POST /api/v1/message/webhook/update_history."""

    acceptance: Acceptance
    results: Results
    wakeups: Wakeups
    rules: Rules
    wait: timedelta
    answers_like_predecessor: bool

    def routes(self) -> list[Route]:
        path = "/api/v1/message/webhook/update_history"
        return [SelfLimitedRoute(path, self.post_history, methods=["POST"])]

    async def post_history(self, request: Request) -> Response:
        """Put messages into the thread. Answers 200 with what a poll would, and 202 when that takes long."""
        limit = pending_limit(request)
        async with refusals_counted(self.acceptance, limit):
            require(request, Role.MESSAGE_SENDER)
            require_json(request)
            history = parse_request(HistoryRequest, await request.body(), self.rules)
        event = self._event(history)
        with self.wakeups.watch(event.message_id) as watch:
            with acceptance_errors():
                accepted = await self.acceptance.take_in(event, limit=limit)
            result = await self._result(event.message_id, watch)
        if result is None:
            return accepted_answer(accepted, like_predecessor=self.answers_like_predecessor)
        return json_response(result)

    def _event(self, history: HistoryRequest) -> HistoryUpdate:
        return HistoryUpdate(
            message_id=self.acceptance.ids.message_id(),
            user_number=history.user_number,
            timestamp=self.acceptance.clock.now(),
            messages=[HistoryMessage(content=one.content, role=one.role) for one in history.messages],
            metadata=history.metadata or {},
            provider=history.provider,
            reasoning_engine_id=history.reasoning_engine_id,
            trace_headers=trace_headers(),
        )

    async def _result(self, message_id: str, watch: Watch) -> bytes | None:
        """What the formatter stored, None when it did not in time or nobody can tell."""
        deadline = Deadline.after(self.wait)
        while not watch.is_over and not deadline.has_passed:
            await watch.changed(within_s=min(_LOOK_AGAIN_S, deadline.remaining_s()))
            try:
                view = await self.results.read(message_id)
            except Unavailable:
                return None  # it was accepted all the same
            if view.result is not None:
                return view.result
        return None

"""Puts messages of another conversation into a user's thread."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from eai_common.clock import Clock, Deadline
from eai_common.errors import Unavailable
from eai_common.http import Role, json_response, require
from eai_common.http.limits import SelfLimitedRoute, get_pending_limit
from eai_common.http.openapi import CLEAN_FIELDS, CLEAN_TEXT
from eai_common.ids import Ids
from eai_common.messages import HistoryMessage, HistoryUpdate
from eai_common.store import Subscription, TaskView, Wakeups
from eai_common.telemetry import trace_headers
from eai_ingress.acceptance import Acceptance
from eai_ingress.channel import ChannelAdapter
from eai_ingress.request import ClientData, EngineId, Provider, RequestRules, UserNumber, UserRequest, parse_request
from eai_ingress.routes import acceptance_errors_as_http, accepted_response, count_refusals, require_json

__all__ = ["HistoryAdapter", "HistoryRequest", "HistoryWebhook", "Results"]

_READ_AGAIN_S = 5.0  # in case a wake-up was lost


class PastMessage(BaseModel):
    """One message of the other conversation."""

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


@dataclass(frozen=True, slots=True)
class HistoryAdapter:
    """The body of the history webhook."""

    rules: RequestRules
    ids: Ids
    clock: Clock

    def first_event(self, body: bytes) -> HistoryUpdate:
        request = parse_request(HistoryRequest, body, self.rules)
        return HistoryUpdate(
            message_id=self.ids.message_id(),
            user_number=request.user_number,
            timestamp=self.clock.now(),
            messages=[HistoryMessage(content=message.content, role=message.role) for message in request.messages],
            metadata=request.metadata or {},
            provider=request.provider,
            reasoning_engine_id=request.reasoning_engine_id,
            trace_headers=trace_headers(),
        )


class Results(Protocol):
    """Where the pipeline stores its answer."""

    def read(self, message_id: str) -> Awaitable[TaskView]:
        """Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class HistoryWebhook:
    """POST /api/v1/message/webhook/update_history."""

    acceptance: Acceptance
    channel: ChannelAdapter
    results: Results
    wakeups: Wakeups
    wait: timedelta
    answers_like_predecessor: bool

    def routes(self) -> list[Route]:
        path = "/api/v1/message/webhook/update_history"
        return [SelfLimitedRoute(path, self.post_history, methods=["POST"])]

    async def post_history(self, request: Request) -> Response:
        """Put messages into the thread. Answers 200 with the result, and 202 if there is none within `wait`."""
        limit = get_pending_limit(request)
        async with count_refusals(self.acceptance, limit):
            require(request, Role.MESSAGE_SENDER)
            require_json(request)
            event = self.channel.first_event(await request.body())
        with self.wakeups.subscribe(event.message_id) as subscription:
            with acceptance_errors_as_http():
                accepted = await self.acceptance.accept(event, limit=limit)
            result = await self._result(event.message_id, subscription)
        if result is None:
            return accepted_response(accepted, like_predecessor=self.answers_like_predecessor)
        return json_response(result)

    async def _result(self, message_id: str, subscription: Subscription) -> bytes | None:
        """The result that the formatter stored; None if there is none in time, or Redis is out of reach."""
        deadline = Deadline.after(self.wait)
        while not subscription.is_over and not deadline.has_passed:
            await subscription.changed(within_s=min(_READ_AGAIN_S, deadline.remaining_s()))
            try:
                view = await self.results.read(message_id)
            except Unavailable:
                return None  # the message is accepted all the same
            if view.result is not None:
                return view.result
        return None

"""Google Agent Engine over REST, for networks where gRPC is not open."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from eai_agent_router.agent import Agent, Answer, History, Provider, Turn
from eai_agent_router.agent_engine import Engines, answer_in, history_input, turn_input
from eai_agent_router.errors import AgentBadResponse, AgentTimeout
from eai_agent_router.failures import Failure, error_for
from eai_agent_router.json_api import ErrorBody, JsonApi
from eai_common.clock import Clock, Deadline

__all__ = ["AgentEngineRest"]

_OPERATION = re.compile(r"projects/[\w-]+/locations/[\w-]+(/reasoningEngines/\d+)?/operations/[\w-]+", re.ASCII)
_FIRST_PAUSE = timedelta(milliseconds=500)
_LONGEST_PAUSE = timedelta(seconds=5)


class _Operation(BaseModel):
    """google.longrunning.Operation."""

    model_config = ConfigDict(extra="ignore")
    name: str
    done: bool = False
    error: ErrorBody | None = None
    response: JsonValue = None


class AgentEngineRest(Agent):
    """Queries engines by POST; an operation in answer is polled until the deadline."""

    def __init__(self, api: JsonApi, engines: Engines, clock: Clock, *, class_method: str) -> None:
        self._api = api
        self._engines = engines
        self._clock = clock
        self._class_method = class_method

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        output = await self._query(turn, turn_input(turn), deadline)
        return answer_in(output, turn, at=self._clock.now())

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        return await self._query(history, history_input(history), deadline)

    async def _query(self, asked: Turn | History, given: dict[str, JsonValue], deadline: Deadline) -> JsonValue:
        path = f"/v1beta1/{self._engines.resource_name(asked.reasoning_engine_id)}:query"
        body: dict[str, JsonValue] = {"classMethod": self._class_method, "input": given}
        answer = await self._api.post(path, body, message_id=asked.message_id, deadline=deadline)
        operation = _operation_in(answer)
        return _output(answer) if operation is None else await self._finished(operation, deadline)

    async def _finished(self, operation: _Operation, deadline: Deadline) -> JsonValue:
        pause = _FIRST_PAUSE
        while not operation.done:
            if deadline.remaining_s() <= pause.total_seconds():
                raise AgentTimeout("the engine's operation was not done before the deadline")
            await asyncio.sleep(pause.total_seconds())
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            operation = await self._poll(operation.name, deadline)
        if operation.error is not None:
            raise error_for(_failure_of(operation.error))
        return _output(operation.response)

    async def _poll(self, name: str, deadline: Deadline) -> _Operation:
        if _OPERATION.fullmatch(name) is None:
            raise AgentBadResponse("the engine named an operation that is no resource name")
        answer = await self._api.get(f"/v1beta1/{name}", deadline=deadline)
        operation = _operation_in(answer)
        if operation is None:
            raise AgentBadResponse("the engine's operation has an unknown shape", answer=answer)
        return operation


def _operation_in(answer: JsonValue) -> _Operation | None:
    if not isinstance(answer, dict) or "name" not in answer or "output" in answer:
        return None
    try:
        return _Operation.model_validate(answer)
    except ValidationError as error:
        raise AgentBadResponse("the engine's operation has an unknown shape", answer=answer) from error


def _output(answer: JsonValue) -> JsonValue:
    """Both `{"output": …}` and an older server's `{"response": …}` are unwrapped; what is not wrapped is the output."""
    if isinstance(answer, dict):
        for wrapper in ("output", "response"):
            if wrapper in answer:
                return answer[wrapper]
    return answer


def _failure_of(error: ErrorBody) -> Failure:
    return Failure(
        provider=Provider.GOOGLE_AGENT_ENGINE,
        code=error.name,
        says=error.message or "",
        retry_after=error.retry_delay,
    )

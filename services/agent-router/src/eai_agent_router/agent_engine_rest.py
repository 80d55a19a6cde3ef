"""Google Agent Engine over REST, for networks where gRPC is not open."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from eai_agent_router.agent import Agent, Answer, History, Turn
from eai_agent_router.agent_engine import Engines, build_history_input, build_turn_input, read_answer
from eai_agent_router.errors import AgentBadResponse, AgentTimeout
from eai_agent_router.failures import GOOGLE, Failure, make_error
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
        output = await self._query(turn, build_turn_input(turn), deadline)
        return read_answer(output, turn, at=self._clock.now())

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        return await self._query(history, build_history_input(history), deadline)

    async def _query(self, asked: Turn | History, given: dict[str, JsonValue], deadline: Deadline) -> JsonValue:
        path = f"/v1beta1/{self._engines.resource_name(asked.reasoning_engine_id)}:query"
        body: dict[str, JsonValue] = {"classMethod": self._class_method, "input": given}
        answer = await self._api.post(path, body, message_id=asked.message_id, deadline=deadline)
        operation = _read_operation(answer)
        return _unwrap_output(answer) if operation is None else await self._await_operation(operation, deadline)

    async def _await_operation(self, operation: _Operation, deadline: Deadline) -> JsonValue:
        pause = _FIRST_PAUSE
        while not operation.done:
            if deadline.remaining_s() <= pause.total_seconds():
                raise AgentTimeout("the engine's operation was not done before the deadline")
            await asyncio.sleep(pause.total_seconds())
            pause = min(pause * 1.5, _LONGEST_PAUSE)
            operation = await self._poll(operation.name, deadline)
        if operation.error is not None:
            raise make_error(_read_failure(operation.error))
        return _unwrap_output(operation.response)

    async def _poll(self, name: str, deadline: Deadline) -> _Operation:
        if _OPERATION.fullmatch(name) is None:
            raise AgentBadResponse("the engine named an operation that is no resource name")
        answer = await self._api.get(f"/v1beta1/{name}", deadline=deadline)
        operation = _read_operation(answer)
        if operation is None:
            raise AgentBadResponse("the engine's operation has an unknown shape", answer=answer)
        return operation


def _read_operation(answer: JsonValue) -> _Operation | None:
    if not isinstance(answer, dict) or "name" not in answer or "output" in answer:
        return None
    try:
        return _Operation.model_validate(answer)
    except ValidationError as error:
        raise AgentBadResponse("the engine's operation has an unknown shape", answer=answer) from error


def _unwrap_output(answer: JsonValue) -> JsonValue:
    """Unwrap `{"output": …}` and an older server's `{"response": …}`; an answer without a wrapper is the output."""
    if isinstance(answer, dict):
        for wrapper in ("output", "response"):
            if wrapper in answer:
                return answer[wrapper]
    return answer


def _read_failure(error: ErrorBody) -> Failure:
    return Failure(
        provider=GOOGLE,
        code=error.name,
        message=error.message or "",
        retry_after=error.retry_delay,
    )

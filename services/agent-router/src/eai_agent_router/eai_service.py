"""EAI Agent Service: it creates one agent for each user, and the Letta server behind it answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import quote
from weakref import WeakValueDictionary

from pydantic import BaseModel, Field, JsonValue, ValidationError

from eai_agent_router.agent import Agent, Answer, History, Turn
from eai_agent_router.errors import AgentBadRequest, AgentBadResponse, AgentNotFound
from eai_agent_router.json_api import JsonApi
from eai_agent_router.letta import read_letta_replies
from eai_agent_router.ports import AgentIds
from eai_agent_router.shapes import TurnStamp
from eai_common.clock import Clock, Deadline

__all__ = ["EaiAgents", "LettaAgent", "NewAgent"]


@dataclass(frozen=True, slots=True)
class NewAgent:
    """What an agent is created with; the rest is the service's own choice."""

    agent_type: str
    model: str | None = None


class _Created(BaseModel):
    agent_id: str = Field(min_length=1, max_length=200)


class EaiAgents:
    """The users' agents: known, else created. Two messages of one user that come together create one."""

    def __init__(self, service: JsonApi, agent_ids: AgentIds, new_agent: NewAgent) -> None:
        self._service = service
        self._agent_ids = agent_ids
        self._new_agent = new_agent
        self._creating: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def find_or_create(self, turn: Turn, *, deadline: Deadline, forgotten: str | None = None) -> str:
        """Return the id of the user's agent; a new one if none is known, or only one that the service has `forgotten`.

        Raises the errors of the port, and StoreUnavailable before anything was asked.
        """
        async with self._creating.setdefault(turn.thread_id, asyncio.Lock()):
            known = await self._agent_ids.get(turn.thread_id)
            if known is not None and known != forgotten:
                return known
            created = await self._create(turn, deadline)
            # Before the first question: if it cannot be remembered, the message waits, and nothing was asked yet.
            await self._agent_ids.put(turn.thread_id, created)
            return created

    async def _create(self, turn: Turn, deadline: Deadline) -> str:
        wanted: dict[str, JsonValue] = {
            "user_number": turn.thread_id,
            "agent_type": self._new_agent.agent_type,
            "name": f"{self._new_agent.agent_type}_{turn.thread_id}",
            "tags": [self._new_agent.agent_type],
        }
        if self._new_agent.model is not None:
            wanted["model"] = self._new_agent.model
        answer = await self._service.post("/api/v1/agent/create", wanted, message_id=turn.message_id, deadline=deadline)
        try:
            return _Created.model_validate(answer).agent_id
        except ValidationError as error:
            raise AgentBadResponse("the EAI Agent Service created an agent without an id", answer=answer) from error


class LettaAgent(Agent):
    """Asks the users' agents.

    `remember` raises AgentBadRequest: Letta answers whatever it is sent, and the service offers no other way in.
    """

    def __init__(self, agents: EaiAgents, letta: JsonApi, clock: Clock) -> None:
        self._agents = agents
        self._letta = letta
        self._clock = clock

    async def ask(self, turn: Turn, *, deadline: Deadline) -> Answer:
        agent_id = await self._agents.find_or_create(turn, deadline=deadline)
        try:
            answer = await self._ask(agent_id, turn, deadline)
        except AgentNotFound:
            agent_id = await self._agents.find_or_create(turn, deadline=deadline, forgotten=agent_id)
            answer = await self._ask(agent_id, turn, deadline)
        stamp = TurnStamp(turn.message_id, agent_id, self._clock.now())
        return Answer(read_letta_replies(answer, stamp), agent_id)

    async def remember(self, history: History, *, deadline: Deadline) -> JsonValue:
        raise AgentBadRequest("the EAI Agent Service cannot take messages without answering them")

    async def _ask(self, agent_id: str, turn: Turn, deadline: Deadline) -> JsonValue:
        """Send the question, with the previous message in the same request: both arrive, or neither.

        Letta keeps whatever it is sent, so a repeated turn does not send the previous message again.
        """
        question: JsonValue = {"role": "user", "content": turn.text}
        before: list[JsonValue] = (
            [{"role": "assistant", "content": turn.previous_message}]
            if turn.previous_message is not None and not turn.is_repeated
            else []
        )
        path = f"/v1/agents/{quote(agent_id, safe='')}/messages"
        body: dict[str, JsonValue] = {"messages": [*before, question]}
        return await self._letta.post(path, body, message_id=turn.message_id, deadline=deadline)

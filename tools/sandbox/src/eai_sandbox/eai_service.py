"""The EAI Agent Service, which makes agents, and Letta, which talks to them, at one base URL."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field
from starlette.routing import Route

from eai_sandbox.brain import Brain, IncomingMessage
from eai_sandbox.calls import Call, Target
from eai_sandbox.conversation import MODEL_NAME, Message, Role, Usage
from eai_sandbox.faults import Gate
from eai_sandbox.http_edge import Answer, ReceivedRequest, detail_error, endpoint, parse
from eai_sandbox.jsontype import Json, JsonObject
from eai_sandbox.refusal import Refused

__all__ = ["EaiService"]


class _NewAgent(BaseModel):
    model_config = ConfigDict(extra="allow")

    user_number: str = Field(min_length=1)
    agent_type: str | None = None
    name: str | None = None
    tags: list[str] = []
    model: str | None = None


class _TextPart(BaseModel):
    type: Literal["text"] = "text"
    text: str


class _LettaMessage(BaseModel):
    role: Literal["user", "assistant", "system"]
    content: str | list[_TextPart]

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content)


class _LettaMessages(BaseModel):
    messages: list[_LettaMessage] = Field(min_length=1)

    @property
    def incoming(self) -> list[IncomingMessage]:
        roles = {"user": Role.HUMAN, "assistant": Role.AI}
        return [IncomingMessage(roles[one.role], one.text) for one in self.messages if one.role in roles]


class EaiService:
    """Agents in memory; `forget` loses them all, like a service with a new database."""

    def __init__(
        self, gate: Gate, brain: Brain, *, token: str | None, max_agents: int, now: Callable[[], datetime]
    ) -> None:
        self._gate = gate
        self._brain = brain
        self._token = token
        self._max_agents = max_agents
        self._now = now
        self._agents: OrderedDict[str, JsonObject] = OrderedDict()

    @property
    def routes(self) -> list[Route]:
        """The EAI Agent Service's routes and Letta's."""
        handlers = (
            ("POST", "/api/v1/agent/create", self.create),
            ("GET", "/api/v1/agent/{agent_id}", self.get),
            ("GET", "/api/v1/system-prompt", self.system_prompt),
            ("POST", "/v1/agents/{agent_id}/messages", self.send),
        )
        return [
            Route(path, endpoint(handle, detail_error, token=self._token), methods=[method])
            for method, path, handle in handlers
        ]

    def forget(self) -> None:
        """Lose every agent; their conversations go with them."""
        for agent_id in self._agents:
            self._brain.threads.forget(agent_id)
        self._agents.clear()

    async def create(self, received: ReceivedRequest) -> Answer:
        """Make an agent; each call makes a new one."""
        wanted = parse(_NewAgent, received.body)
        async with self._gate.admit(Call(Target.EAI, "http", "create", wanted.user_number)) as admitted:
            agent_id = f"agent-{uuid4()}"
            agent: JsonObject = {
                "agent_id": agent_id,
                "id": agent_id,
                "user_number": wanted.user_number,
                "agent_type": wanted.agent_type,
                "name": wanted.name or f"{wanted.agent_type or 'agent'}_{wanted.user_number}",
                "tags": wanted.tags,
                "model": wanted.model or MODEL_NAME,
                "created_at": self._now().isoformat(),
            }
            self._agents[agent_id] = agent
            if len(self._agents) > self._max_agents:
                self._brain.threads.forget(self._agents.popitem(last=False)[0])
            return Answer(agent, admitted.is_malformed, HTTPStatus.CREATED)

    async def get(self, received: ReceivedRequest) -> Answer:
        """Describe one agent."""
        agent_id = received.path("agent_id")
        async with self._gate.admit(Call(Target.EAI, "http", "get", agent_id, thread_id=agent_id)) as admitted:
            return Answer(self._known(agent_id), admitted.is_malformed)

    async def system_prompt(self, received: ReceivedRequest) -> Answer:
        """The system prompt for some tags, given one by one or in a list with commas."""
        tags = [tag for given in received.request.query_params.getlist("tags") for tag in given.split(",") if tag]
        async with self._gate.admit(Call(Target.EAI, "http", "system-prompt", ",".join(tags))) as admitted:
            prompt = f"Você é o assistente da prefeitura. Assuntos: {', '.join(tags) or 'todos'}."
            return Answer(
                {"prompt": prompt, "system_prompt": prompt, "tags": tags, "version": 1}, admitted.is_malformed
            )

    async def send(self, received: ReceivedRequest) -> Answer:
        """Letta: send messages to an agent. Raises Refused if it is unknown or the last one is not the user's."""
        incoming = parse(_LettaMessages, received.body).incoming
        agent_id = received.path("agent_id")
        content = incoming[-1].text if incoming else ""
        message_id = received.request.headers.get("x-message-id")
        call = Call(Target.LETTA, "http", "messages", content, thread_id=agent_id, message_id=message_id)
        async with self._gate.admit(call) as admitted:
            self._known(agent_id)
            try:
                turn = self._brain.ask(agent_id, incoming)
            except ValueError as error:
                raise Refused(str(error), status=HTTPStatus.UNPROCESSABLE_ENTITY) from error
            return Answer(_letta_answer(turn), admitted.is_malformed)

    def _known(self, agent_id: str) -> JsonObject:
        agent = self._agents.get(agent_id)
        if agent is None:
            raise Refused(f"Agent not found with id='{agent_id}'", status=HTTPStatus.NOT_FOUND)
        return agent


def _letta_answer(turn: Sequence[Message]) -> JsonObject:
    """A turn as Letta answers: the new messages, without the user's (source: Letta API, LettaResponse)."""
    made = [message for message in turn if message.usage or message.role is Role.TOOL]
    usages = [message.usage for message in made if message.usage]
    total = sum(usages, Usage(0, 0))
    return {
        "messages": [one for message in made for one in _letta_messages(message)],
        "stop_reason": {"message_type": "stop_reason", "stop_reason": "end_turn"},
        "usage": {
            "message_type": "usage_statistics",
            "completion_tokens": total.completion + total.thoughts,
            "prompt_tokens": total.prompt,
            "total_tokens": total.total,
            "step_count": len(usages),
            "steps_messages": None,
            "run_ids": None,
        },
    }


def _letta_messages(message: Message) -> Iterator[JsonObject]:
    common: dict[str, Json] = {
        "id": f"message-{message.message_id}",
        "date": message.at.isoformat(),
        **dict.fromkeys(("name", "otid", "sender_id", "step_id", "is_err")),
    }
    if message.thinking is not None:
        thought = {"source": "reasoner_model", "reasoning": message.thinking, "signature": None}
        yield common | {"message_type": "reasoning_message"} | thought
    yield {**common, **_letta_content(message)}


def _letta_content(message: Message) -> JsonObject:
    call = message.tool_call
    if call is None:
        return {"message_type": "assistant_message", "content": message.text}
    if message.role is Role.TOOL:
        status = {"status": "success", "tool_call_id": call.call_id, "stdout": None, "stderr": None}
        return {"message_type": "tool_return_message", "tool_return": message.text, **status}
    arguments = json.dumps(call.arguments, ensure_ascii=False)
    wanted = {"name": call.name, "arguments": arguments, "tool_call_id": call.call_id}
    return {"message_type": "tool_call_message", "tool_call": wanted}

"""What both ways to Google Agent Engine share: which engine, what it is asked, and who answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from eai_agent_router.agent import Answer, History, Turn
from eai_agent_router.errors import AgentBadRequest
from eai_agent_router.langchain import TurnStamp, replies_in
from eai_common.messages import HistoryMessage

__all__ = ["Engines", "answer_in", "history_input", "turn_input"]

_DIGITS = re.compile(r"[0-9]{1,30}")


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines that messages may go to, all of one project and region."""

    project: str
    region: str
    default_id: str
    allowed_ids: frozenset[str] = field(default_factory=frozenset)  # empty: every engine of the project

    @property
    def parent(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"

    def resource_name(self, requested: str | None) -> str:
        """The full name of the engine that is asked for, or of the default one.

        Takes digits, or a full name in this project and region: an engine elsewhere needs another endpoint. Nothing
        else gets near a path. Raises AgentBadRequest.
        """
        engine_id = self.engine_id(requested or self.default_id)
        if self.allowed_ids and engine_id not in self.allowed_ids and engine_id != self.engine_id(self.default_id):
            raise AgentBadRequest("reasoning_engine_id: is not one of AGENT_ENGINE_ALLOWED_IDS")
        return f"{self.parent}/reasoningEngines/{engine_id}"

    def engine_id(self, name: str) -> str:
        """The digits of an engine's name, short or full. Raises AgentBadRequest."""
        engine_id = name.removeprefix(f"{self.parent}/reasoningEngines/")
        if _DIGITS.fullmatch(engine_id) is None:
            raise AgentBadRequest(
                f"reasoning_engine_id: takes digits, or {self.parent}/reasoningEngines/ and digits; got {len(name)} "
                "characters that are neither"
            )
        return engine_id


def turn_input(turn: Turn) -> dict[str, JsonValue]:
    """What the engine's method is called with to answer.

    The previous message travels in front of the question, in the same request, so there is no moment at which the
    engine has one without the other. Its id is made from the message's: LangGraph replaces a message whose id the
    thread already holds, so even a second try after a lost answer does not double it. The question has no id on
    purpose: replaced in place, it would stand before its own first answer, and the model would have nothing to answer.

    How sure the recogniser was of a voice message stands in the run's metadata, where an agent that wants to ask back
    finds it; the user's words stay the user's.
    """
    messages: list[JsonValue] = [{"role": "human", "content": turn.text}]
    if turn.previous_message is not None:
        messages.insert(0, {"role": "ai", "content": turn.previous_message, "id": f"{turn.message_id}-previous"})
    return _input(turn.thread_id, messages, _metadata(turn))


def _metadata(turn: Turn) -> dict[str, JsonValue]:
    return {} if turn.confidence is None else {"transcript_confidence": turn.confidence}


def history_input(history: History) -> dict[str, JsonValue]:
    """What the engine's method is called with to remember; each message has an id, so a repetition changes nothing.

    The mark stands in both places: deployed engines take it beside `input`, our contract has it inside, and an engine
    ignores the one that it does not look for.
    """
    messages = [_remembered(history, number, message) for number, message in enumerate(history.messages)]
    given = _input(history.thread_id, messages)
    return {**given, "input": {"messages": messages, "type": "history"}, "type": "history"}


def answer_in(output: JsonValue, turn: Turn, *, at: datetime) -> Answer:
    """The answer in an engine's output. Raises AgentBadResponse or AgentRefused."""
    agent_id = f"user_{turn.thread_id}"
    return Answer(replies_in(output, TurnStamp(turn.message_id, agent_id, at)), agent_id)


def _input(
    thread_id: str, messages: Sequence[JsonValue], metadata: Mapping[str, JsonValue] | None = None
) -> dict[str, JsonValue]:
    config: dict[str, JsonValue] = {"configurable": {"thread_id": thread_id}}
    if metadata:
        config["metadata"] = dict(metadata)
    return {"input": {"messages": list(messages)}, "config": config}


def _remembered(history: History, number: int, message: HistoryMessage) -> JsonValue:
    return {"role": message.role, "content": message.content, "id": f"{history.message_id}-{number}"}

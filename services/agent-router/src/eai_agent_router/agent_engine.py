"""What both transports to Google Agent Engine share: which engine is asked, for what, and what it answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import JsonValue

from eai_agent_router.agent import Answer, History, Turn
from eai_agent_router.errors import AgentBadRequest
from eai_agent_router.langchain import read_replies
from eai_agent_router.shapes import TurnStamp
from eai_common.messages import HistoryMessage

__all__ = ["Engines", "read_answer", "build_history_input", "build_turn_input"]

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
        """Return the full name of the engine that is asked for, or of the default one.

        Takes digits, or a full name in this project and region: an engine elsewhere needs another endpoint. Nothing
        else gets into a path. Raises AgentBadRequest.
        """
        engine_id = self.engine_id(requested or self.default_id)
        if self.allowed_ids and engine_id not in self.allowed_ids and engine_id != self.engine_id(self.default_id):
            raise AgentBadRequest("reasoning_engine_id: is not one of AGENT_ENGINE_ALLOWED_IDS")
        return f"{self.parent}/reasoningEngines/{engine_id}"

    def engine_id(self, name: str) -> str:
        """Return the digits of an engine's name, short or full. Raises AgentBadRequest."""
        engine_id = name.removeprefix(f"{self.parent}/reasoningEngines/")
        if _DIGITS.fullmatch(engine_id) is None:
            raise AgentBadRequest(
                f"reasoning_engine_id: takes digits, or {self.parent}/reasoningEngines/ and digits; got {len(name)} "
                "characters that are neither"
            )
        return engine_id


def build_turn_input(turn: Turn) -> dict[str, JsonValue]:
    """Return the arguments with which the engine's method answers.

    The previous message is sent before the question, in the same request, so the engine never has one without the
    other. Its id is made from the message's: LangGraph replaces a message whose id the thread already holds, so a
    second attempt after a lost answer does not double it. The question has no id on purpose: replaced in place, it
    would stand before its own first answer, and the model would have nothing to answer.

    The recogniser's confidence in a voice message is in the run's metadata, for an agent that wants to ask back; the
    user's words are not changed.
    """
    messages: list[JsonValue] = [{"role": "human", "content": turn.text}]
    if turn.previous_message is not None:
        messages.insert(0, {"role": "ai", "content": turn.previous_message, "id": f"{turn.message_id}-previous"})
    return _build_input(turn.thread_id, messages, _build_metadata(turn))


def _build_metadata(turn: Turn) -> dict[str, JsonValue]:
    return {} if turn.confidence is None else {"transcript_confidence": turn.confidence}


def build_history_input(history: History) -> dict[str, JsonValue]:
    """Return the arguments with which the engine's method remembers.

    Each message has an id, so a repetition changes nothing. The mark is in both places: deployed engines take it beside
    `input`, our contract has it inside, and an engine ignores the one that it does not look for.
    """
    messages = [_build_history_message(history, number, message) for number, message in enumerate(history.messages)]
    given = _build_input(history.thread_id, messages)
    return {**given, "input": {"messages": messages, "type": "history"}, "type": "history"}


def read_answer(output: JsonValue, turn: Turn, *, at: datetime) -> Answer:
    """Return the answer in an engine's output. Raises AgentBadResponse or AgentRefused."""
    agent_id = f"user_{turn.thread_id}"
    return Answer(read_replies(output, TurnStamp(turn.message_id, agent_id, at)), agent_id)


def _build_input(
    thread_id: str, messages: Sequence[JsonValue], metadata: Mapping[str, JsonValue] | None = None
) -> dict[str, JsonValue]:
    config: dict[str, JsonValue] = {"configurable": {"thread_id": thread_id}}
    if metadata:
        config["metadata"] = dict(metadata)
    return {"input": {"messages": list(messages)}, "config": config}


def _build_history_message(history: History, number: int, message: HistoryMessage) -> JsonValue:
    return {"role": message.role, "content": message.content, "id": f"{history.message_id}-{number}"}

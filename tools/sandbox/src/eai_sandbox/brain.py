"""The one assistant behind every agent protocol: it answers, and remembers what was said in which conversation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from eai_sandbox import answers
from eai_sandbox.conversation import Message, Role, Threads, ToolCall, Usage

__all__ = ["Brain", "Said"]

_TOOL_NAME = "consultar_servicos"
_TOOL_RESULT = '{"encontrados": 1, "servico": "Atendimento ao cidadão", "telefone": "1746"}'


@dataclass(frozen=True, slots=True)
class Said:
    """A message as a client sent it."""

    role: Role
    text: str
    message_id: str | None = None  # the client's own id, kept if given


def _random_id() -> str:
    return str(uuid4())


class Brain:
    """Answers questions; deterministic but for ids and times, which are passed in."""

    def __init__(
        self, threads: Threads, *, now: Callable[[], datetime], new_id: Callable[[], str] = _random_id
    ) -> None:
        self.threads = threads
        self._now = now
        self._new_id = new_id

    def ask(self, thread_id: str, said: Sequence[Said]) -> tuple[Message, ...]:
        """Answer the last of the messages in its conversation; gives this turn: what was said, then what was made.

        Raises ValueError when there is no message, or the last one is not the user's.
        """
        turn = self.reply(said, self.threads.of(thread_id))
        self.threads.append(thread_id, turn)
        return turn

    def record(self, thread_id: str, said: Sequence[Said]) -> tuple[Message, ...]:
        """Remember messages without an answer; gives them as they were recorded."""
        messages = tuple(self._message(one) for one in said)
        self.threads.append(thread_id, messages)
        return messages

    def reply(self, said: Sequence[Said], history: Sequence[Message] = ()) -> tuple[Message, ...]:
        """As `ask`, but the conversation is passed in and nothing is remembered."""
        if not said or said[-1].role is not Role.HUMAN:
            raise ValueError("messages: expected at least one, the last of them by the user")
        asked = tuple(self._message(one) for one in said)
        known = (*history, *asked)
        question = asked[-1].text
        used_tool = self._tool_steps(question, known) if answers.wants_tool(question) else ()
        return (*asked, *used_tool, self._answer(question, (*history, *asked[:-1]), prompt=(*known, *used_tool)))

    def _answer(self, question: str, history: Sequence[Message], *, prompt: Sequence[Message]) -> Message:
        text = answers.answer_to(question, history)
        thinking = answers.thoughts_on(question) if answers.wants_thoughts(question) else None
        usage = Usage(_tokens(*(m.text for m in prompt)), _tokens(text), _tokens(thinking) if thinking else 0)
        return Message(f"run-{self._new_id()}", Role.AI, text, self._now(), thinking=thinking, usage=usage)

    def _tool_steps(self, question: str, prompt: Sequence[Message]) -> tuple[Message, Message]:
        call = ToolCall(f"call_{self._new_id()}", _TOOL_NAME, {"consulta": question})
        usage = Usage(_tokens(*(m.text for m in prompt)), _tokens(question))
        return (
            Message(f"run-{self._new_id()}", Role.AI, "", self._now(), tool_call=call, usage=usage),
            Message(self._new_id(), Role.TOOL, _TOOL_RESULT, self._now(), tool_call=call),
        )

    def _message(self, said: Said) -> Message:
        return Message(said.message_id or self._new_id(), said.role, said.text, self._now())


def _tokens(*texts: str) -> int:
    return max(1, sum(map(len, texts)) // 4)

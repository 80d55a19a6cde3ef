"""The assistant behind every agent protocol: it answers, and remembers each conversation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from eai_sandbox import answers
from eai_sandbox.conversation import Message, Role, Threads, ToolCall, Usage

__all__ = ["Brain", "IncomingMessage"]

_TOOL_NAME = "consultar_servicos"
_TOOL_RESULT = '{"encontrados": 1, "servico": "Atendimento ao cidadão", "telefone": "1746"}'


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message as the client sent it."""

    role: Role
    text: str
    message_id: str | None = None  # the client's own id, if it gave one


def _random_id() -> str:
    return str(uuid4())


class Brain:
    """Answers questions; deterministic apart from ids and times, which are passed in."""

    def __init__(
        self, threads: Threads, *, now: Callable[[], datetime], new_id: Callable[[], str] = _random_id
    ) -> None:
        self.threads = threads
        self._now = now
        self._new_id = new_id

    def ask(self, thread_id: str, incoming: Sequence[IncomingMessage]) -> tuple[Message, ...]:
        """Answer the last message in its conversation; gives this turn: the incoming messages, then the new ones.

        Raises ValueError if there is no message or the last one is not the user's.
        """
        turn = self.reply(incoming, self.threads.of(thread_id))
        self.threads.append(thread_id, turn)
        return turn

    def record(self, thread_id: str, incoming: Sequence[IncomingMessage]) -> tuple[Message, ...]:
        """Remember messages without an answer; gives them as recorded."""
        messages = tuple(self._message(one) for one in incoming)
        self.threads.append(thread_id, messages)
        return messages

    def reply(self, incoming: Sequence[IncomingMessage], history: Sequence[Message] = ()) -> tuple[Message, ...]:
        """Answer like `ask`, for a conversation that is passed in; remembers nothing. Raises ValueError like `ask`."""
        if not incoming or incoming[-1].role is not Role.HUMAN:
            raise ValueError("messages: expected at least one, the last of them by the user")
        asked = tuple(self._message(one) for one in incoming)
        known = (*history, *asked)
        question = asked[-1].text
        used_tool = self._tool_steps(question, known) if answers.wants_tool(question) else ()
        answer = self._answer(question, known[:-1], prompt=(*known, *used_tool))
        return (*asked, *used_tool, answer)

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

    def _message(self, incoming: IncomingMessage) -> Message:
        return Message(incoming.message_id or self._new_id(), incoming.role, incoming.text, self._now())


def _tokens(*texts: str) -> int:
    return max(1, sum(map(len, texts)) // 4)

"""The messages of a conversation in no protocol's shape, and the memory that holds them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = ["MODEL_NAME", "Message", "Role", "Threads", "ToolCall", "Usage"]

MODEL_NAME = "sandbox-1"


class Role(StrEnum):
    """Who wrote a message."""

    HUMAN = "human"
    AI = "ai"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model asks for."""

    call_id: str
    name: str
    arguments: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one model step cost in tokens, estimated at four characters each."""

    prompt: int
    completion: int
    thoughts: int = 0

    @property
    def total(self) -> int:
        """The sum of all."""
        return self.prompt + self.completion + self.thoughts

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.prompt + other.prompt, self.completion + other.completion, self.thoughts + other.thoughts)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation."""

    message_id: str
    role: Role
    text: str
    at: datetime
    thinking: str | None = None  # of an ai message: its reasoning
    tool_call: ToolCall | None = None  # the call that an ai message asks for or a tool message answers
    usage: Usage | None = None  # of an ai message that the sandbox made; None for recorded history


class Threads:
    """The messages of each conversation; both the conversations and the messages of each are bounded."""

    def __init__(self, *, max_threads: int, max_messages: int) -> None:
        self._threads: OrderedDict[str, deque[Message]] = OrderedDict()
        self._max_threads = max_threads
        self._max_messages = max_messages

    def __len__(self) -> int:
        return len(self._threads)

    def of(self, thread_id: str) -> tuple[Message, ...]:
        """The messages of a conversation, oldest first; empty if it is unknown."""
        return tuple(self._threads.get(thread_id, ()))

    def append(self, thread_id: str, messages: Sequence[Message]) -> None:
        """Add messages; the conversation becomes the most recent one.

        A message with a known id replaces the old one, as in LangGraph's `add_messages`.
        """
        thread = self._threads.setdefault(thread_id, deque(maxlen=self._max_messages))
        places = {message.message_id: place for place, message in enumerate(thread)}
        for message in messages:
            if (place := places.get(message.message_id)) is not None:
                thread[place] = message
        thread.extend(message for message in messages if message.message_id not in places)
        self._threads.move_to_end(thread_id)
        while len(self._threads) > self._max_threads:
            self._threads.popitem(last=False)

    def items(self) -> Iterator[tuple[str, tuple[Message, ...]]]:
        """Every conversation, least recent first."""
        return ((thread_id, tuple(messages)) for thread_id, messages in self._threads.items())

    def forget(self, thread_id: str) -> None:
        """Drop a conversation, known or not."""
        self._threads.pop(thread_id, None)

    def clear(self) -> None:
        """Drop every conversation."""
        self._threads.clear()

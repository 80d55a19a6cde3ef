"""The messages of a conversation, before a protocol gives them its own form, and the memory that holds them."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = ["MODEL_NAME", "Message", "Role", "Threads", "ToolCall", "Usage"]

MODEL_NAME = "sandbox-1"


class Role(StrEnum):
    """Who said it."""

    HUMAN = "human"
    AI = "ai"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model wants used."""

    call_id: str
    name: str
    arguments: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one model step cost, in tokens; the counts are estimates of a quarter of the characters."""

    prompt: int
    completion: int
    thoughts: int = 0

    @property
    def total(self) -> int:
        """All of them together."""
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
    thinking: str | None = None  # of an ai message: what it thought aloud first
    tool_call: ToolCall | None = None  # of an ai message that asks for a tool; of a tool message the call it answers
    usage: Usage | None = None  # of an ai message that was made here; None for recorded history


class Threads:
    """What was said in each conversation, bounded in conversations and in messages of each."""

    def __init__(self, *, max_threads: int, max_messages: int) -> None:
        self._threads: OrderedDict[str, deque[Message]] = OrderedDict()
        self._max_threads = max_threads
        self._max_messages = max_messages

    def __len__(self) -> int:
        return len(self._threads)

    def of(self, thread_id: str) -> tuple[Message, ...]:
        """What is remembered of a conversation, oldest first; empty for one that is not known."""
        return tuple(self._threads.get(thread_id, ()))

    def append(self, thread_id: str, messages: Sequence[Message]) -> None:
        """Remember messages; the conversation is the most recent one now.

        One whose id it holds already takes the old one's place, as LangGraph's `add_messages` does it.
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
        """Every conversation, the least recent first."""
        return ((thread_id, tuple(messages)) for thread_id, messages in self._threads.items())

    def forget(self, thread_id: str) -> None:
        """Drop a conversation, known or not."""
        self._threads.pop(thread_id, None)

    def clear(self) -> None:
        """Drop every conversation."""
        self._threads.clear()

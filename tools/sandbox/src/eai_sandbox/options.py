"""The options of a sandbox."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta

__all__ = ["SandboxOptions"]


def _cpus() -> int:
    return os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """Where the sandbox listens, what it requires and how much it remembers.

    Raises ValueError if a size is below 1."""

    host: str = "127.0.0.1"  # loopback: the sandbox is not made for a network
    http_port: int = 0  # 0 takes a free port
    grpc_port: int = 0
    agent_latency: timedelta = timedelta(0)  # before each answer of Agent Engine, Letta and chat
    agent_returns_thread: bool = False  # Agent Engine answers with the whole thread, as LangGraph does
    eai_token: str | None = None  # Bearer token for the EAI Agent Service and Letta; None requires none
    openai_key: str | None = None  # the same for the OpenAI-compatible routes
    speech_workers: int = field(default_factory=_cpus)  # recognitions at a time; each takes about 150 MB once used
    max_threads: int = 10_000  # the least recently used conversation is forgotten first
    max_thread_messages: int = 200  # in one conversation; the oldest go first
    max_agents: int = 10_000
    max_calls: int = 10_000  # recorded calls
    hang_limit: timedelta = timedelta(minutes=10)  # a hang ends with an error after this
    shutdown_grace: timedelta = timedelta(seconds=1)

    def __post_init__(self) -> None:
        for name in ("speech_workers", "max_threads", "max_thread_messages", "max_agents", "max_calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, takes a whole number from 1")

"""A steady stream of messages, each polled until it is answered, while a test does something to the gateway."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import httpx

from eai_common.testing import every

__all__ = ["Load", "load"]

_ANSWER_WITHIN_S = 90.0


@dataclass
class Load:
    """What was sent, and what became of it. `failed` are requests that a client would have to repeat."""

    sent: int = 0
    requests: int = 0
    answered: list[float] = field(default_factory=list)  # seconds from the POST to the result
    failed: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, object]:
        times = sorted(self.answered)
        return {
            "sent": self.sent,
            "requests": self.requests,
            "failed": len(self.failed),
            "unanswered": len(self.unanswered),
            "p50_s": round(times[len(times) // 2], 2) if times else None,
            "max_s": round(times[-1], 2) if times else None,
        }


@contextmanager
def load(url: str, *, each_s: float, user: str) -> Iterator[Load]:
    """Send a message every `each_s` seconds during the block, each from a new user of `user`'s own; then await all."""
    seen = Load()
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_send(url, each_s, user, seen, stop)), name="load")
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


async def _send(url: str, each_s: float, user: str, seen: Load, stop: threading.Event) -> None:
    limits = httpx.Limits(max_connections=400, max_keepalive_connections=50)
    async with httpx.AsyncClient(timeout=30, trust_env=False, limits=limits) as http, asyncio.TaskGroup() as group:
        async for _ in every(timedelta(seconds=each_s)):
            if stop.is_set():
                return
            seen.sent += 1
            group.create_task(_follow(http, url, f"+55{user[-4:]}{seen.sent:07d}", seen))


async def _follow(http: httpx.AsyncClient, url: str, user: str, seen: Load) -> None:
    began = time.monotonic()
    body = {"user_number": user, "message": f"Pergunta de {user}"}
    accepted = await _request(http, "POST", f"{url}/api/v1/message/webhook/user", seen, expected=(202,), json=body)
    if accepted is None:
        return
    message_id = accepted.json()["message_id"]
    async for _ in every(timedelta(seconds=0.3)):
        if time.monotonic() > began + _ANSWER_WITHIN_S:
            break
        found = await _request(
            http, "GET", f"{url}/api/v1/message/response", seen, expected=(200, 202), params={"message_id": message_id}
        )
        if found is not None and found.status_code == 200:
            if found.json()["status"] == "completed":
                seen.answered.append(time.monotonic() - began)
            else:
                seen.unanswered.append(f"{message_id}: {found.text}")
            return
    seen.unanswered.append(f"{message_id}: no result in {_ANSWER_WITHIN_S:g} s")


async def _request(
    http: httpx.AsyncClient, method: str, url: str, seen: Load, *, expected: tuple[int, ...], **options: object
) -> httpx.Response | None:
    seen.requests += 1
    try:
        response = await http.request(method, url, **options)  # type: ignore[arg-type]  # json or params
    except httpx.TransportError as error:
        seen.failed.append(f"{method}: {error!r}")
        return None
    if response.status_code not in expected:
        seen.failed.append(f"{method}: {response.status_code} {response.text[:200]}")
        return None
    return response

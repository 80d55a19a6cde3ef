"""One client's requests through two replicas, for a minute: are as many taken as may be, and are the headers true?

Two pollers, processes of their own, share a private Redis and the limits that hold by default.
One client sends 1,200 evenly over a minute, turn by turn to each replica, another 120 beside it. Then the first asks
until it is refused, and comes back when it was told to. Prints JSON, and ends with 1 if a promise was broken.

    .venv/bin/python tests/acceptance/rate_limit.py
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx

from eai_cli.servers import run_private_redis
from eai_common.testing import every

LIMIT, MINUTE_S = 1000, 60.0
URL = "/api/v1/message/response?message_id=019b76da-a800-7000-8000-000000000000"  # unknown: 404 is an answer, too


@dataclass
class Client:
    """One client, and what it was answered."""

    token: str
    replicas: list[httpx.AsyncClient]
    answers: list[httpx.Response] = field(default_factory=list)

    async def ask(self) -> httpx.Response:
        replica = self.replicas[len(self.answers) % len(self.replicas)]
        answer = await replica.get(URL, headers={"Authorization": f"Bearer {self.token}"})
        self.answers.append(answer)
        return answer

    async def ask_evenly(self, count: int) -> None:
        async for number in every(timedelta(seconds=MINUTE_S / count)):
            if number == count:
                return
            await self.ask()

    @property
    def taken(self) -> list[httpx.Response]:
        return [answer for answer in self.answers if answer.status_code != 429]

    @property
    def refused(self) -> list[httpx.Response]:
        return [answer for answer in self.answers if answer.status_code == 429]


@contextmanager
def poller(redis_url: str) -> Iterator[str]:
    """A replica; gives its address."""
    environ = {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "PYTHONPATH")},
        "HOST": "127.0.0.1",
        "PORT": "0",
        "REDIS_URL": redis_url,
        "API_TOKEN": "busy:read_only:busy-secret,calm:read_only:calm-secret",
        "ENABLE_REQUEST_LOGGING": "false",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "eai_poller"], env=environ, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r'"address":"([^"]+)"', line):
                    yield f"http://{found[1]}"
                    return
            raise RuntimeError("the poller did not start")
        finally:
            process.terminate()


async def measured(urls: list[str]) -> dict[str, Any]:
    """The minute, and the way back in."""
    async with httpx.AsyncClient(base_url=urls[0]) as one, httpx.AsyncClient(base_url=urls[1]) as other:
        busy, calm = Client("busy-secret", [one, other]), Client("calm-secret", [one, other])
        began = time.monotonic()
        await asyncio.gather(busy.ask_evenly(1200), calm.ask_evenly(120))
        took_s = time.monotonic() - began
        in_the_minute = len(busy.taken)
        left = [int(answer.headers["x-ratelimit-remaining"]) for answer in busy.taken]
        while (last := await busy.ask()).status_code != 429:
            pass
        reset_in_s = int(last.headers["x-ratelimit-reset"]) - time.time()
        retry_after_s = int(last.headers["retry-after"])
        await asyncio.sleep(retry_after_s)  # as a client does that believes the header
        came_back = (await busy.ask()).status_code
    return {
        "sent": 1200,
        "seconds": round(took_s, 2),
        "taken": in_the_minute,
        "refused": 1200 - in_the_minute,
        "remaining_counted_down_truly": left == [*range(LIMIT - 1, LIMIT - 1 - len(left), -1)],
        "limit_told": sorted({answer.headers["x-ratelimit-limit"] for answer in busy.answers}),
        "retry_after_s": retry_after_s,
        "reset_in_s": round(reset_in_s, 2),
        "status_after_the_wait": came_back,
        "other_client": {"sent": 120, "taken": len(calm.taken)},
    }


def main() -> int:
    """Run, print, judge."""
    with ExitStack() as stack:
        server = stack.enter_context(run_private_redis())
        urls = [stack.enter_context(poller(server.url)) for _ in range(2)]
        report = asyncio.run(measured(urls))
    promises = {
        "taken within 1 % of the limit": abs(report["taken"] - LIMIT) <= LIMIT // 100,
        "remaining is true": report["remaining_counted_down_truly"],
        "reset and Retry-After agree": abs(report["reset_in_s"] - report["retry_after_s"]) <= 1.1,
        "who waited is taken": report["status_after_the_wait"] != 429,
        "the other client is unharmed": report["other_client"]["taken"] == 120,
    }
    print(json.dumps({"acceptance": "rate_limit", **report, "promises": promises}, indent=2))
    return 0 if all(promises.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

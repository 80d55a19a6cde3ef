"""How often something may happen, exactly: a log of when it did, kept in Redis and shared by all replicas.

A log, not a counter for each fixed interval: no `period` ever holds more than `limit`, wherever it begins. The time is
Redis' own, so replicas whose clocks differ agree. Why not a library: docs/decisions/0005.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import cast

from eai_common.guards import Taken, Window, WindowState
from eai_common.store.client import RedisClient
from eai_common.store.commands import Reply, Request, Script

__all__ = ["SlidingWindow"]

# KEYS: the log, a sorted set of microseconds. ARGV: limit and period in microseconds of each window.
# Returns 1 if taken, else 0, then for each window: places left, microseconds until there is one more.
# A time later than now is from a server whose clock was ahead, before a failover: it would block until that time comes.
_TAKE = Script("""
local key, longest, allowed = KEYS[1], 0, 1
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for i = 2, #ARGV, 2 do longest = math.max(longest, tonumber(ARGV[i])) end
redis.call('ZREMRANGEBYSCORE', key, '-inf', string.format('%.0f', now - longest))
redis.call('ZREMRANGEBYSCORE', key, string.format('%.0f', now + 1000000), '+inf')
local counts = {}
for i = 1, #ARGV, 2 do
  local count = redis.call('ZCOUNT', key, string.format('(%.0f', now - ARGV[i + 1]), '+inf')
  if count >= tonumber(ARGV[i]) then allowed = 0 end
  counts[i] = count
end
if allowed == 1 then
  local at = now
  while redis.call('ZADD', key, 'NX', string.format('%.0f', at), string.format('%.0f', at)) == 0 do at = at + 1 end
  redis.call('PEXPIRE', key, math.ceil(longest / 1000) + 1000)
end
local answer = {allowed}
for i = 1, #ARGV, 2 do
  local limit = tonumber(ARGV[i])
  local used = counts[i] + allowed
  local place = math.min(used, limit)
  local frees = 0
  if place > 0 then -- none was taken in this window, and a longer one refuses
    frees = redis.call('ZRANGE', key, -place, -place, 'WITHSCORES')[2] + ARGV[i + 1] - now
  end
  answer[#answer + 1] = math.max(0, limit - used)
  answer[#answer + 1] = math.max(0, frees)
end
return answer
""")


class SlidingWindow:
    """The logs of all subjects. A subject is what is limited, such as `http:<client>` or `provider:<name>`."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    def take(self, subject: str, windows: Sequence[Window]) -> Request[Taken]:
        """Take a place in every window, or in none. A subject has the same windows each time.

        A try whose answer was lost and that the client repeats counts twice: a limit is never exceeded. Raises
        ValueError when there are no windows.
        """
        if not windows:
            raise ValueError("no windows to take a place in")
        args = [part for window in windows for part in (window.limit, window.period // timedelta(microseconds=1))]
        taking = _TAKE.call([f"ratelimit:{{{subject}}}"], args)
        return self._redis.request(taking, decode=lambda replies: _taken(replies[0], windows))


def _taken(answer: Reply, windows: Sequence[Window]) -> Taken:
    allowed, *numbers = cast(list[int], answer)
    states = (
        WindowState(window, remaining, timedelta(microseconds=frees_us))
        for window, remaining, frees_us in zip(windows, numbers[::2], numbers[1::2], strict=True)
    )
    return Taken(allowed == 1, tuple(states))

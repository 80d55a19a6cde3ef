"""What became of each try to deliver a callback, kept in the status of the task that ended.

| field of `task:status:{id}` | holds |
|---|---|
| `callback:<n>` | when the n-th try was made, what came of it and how long it took |
| `callback:state` | retrying, delivered, gone or failed |
| `callback:last_error` | the last error code, and what followed it |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from eai_common.messages import TaskCompleted, rfc3339
from eai_common.settings.groups import TaskSettings
from eai_common.store import FailedAttempt, RedisClient, Request, Script, milliseconds, pairs_of, status_key

__all__ = ["CallbackLog", "CallbackState", "CallbackAttempt"]

CallbackState = Literal["retrying", "delivered", "gone", "failed"]

_MOST_TRIES = 20  # a dead letter that is replayed again and again overwrites the last

# KEYS: status. ARGV: outcome or '', created_at, ttl in ms, then field and value pairs.
# With an outcome, a status that Redis has lost is written anew: the task did end. Without, a lost one stays lost.
_NOTE = Script("""
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'completed' and status ~= 'failed' then
  if ARGV[1] == '' then return 0 end
  redis.call('HSETNX', KEYS[1], 'created_at', ARGV[2])
  redis.call('HSET', KEYS[1], 'status', ARGV[1], 'stage', 'done')
end
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
return 1
""")


@dataclass(frozen=True, slots=True)
class CallbackAttempt:
    """One try. `result` is a few words for the operator: no URL, no secret."""

    number: int
    state: CallbackState
    result: str
    at: datetime
    took: timedelta


class CallbackLog:
    """The delivery log, and the progress log of the stage that delivers."""

    def __init__(self, redis: RedisClient, settings: TaskSettings) -> None:
        self._redis = redis
        self._settings = settings

    def note_attempt(self, event: TaskCompleted, tried: CallbackAttempt) -> Request[None]:
        """Kept as long as any finished task's status when delivered at once, else long enough to be looked into."""
        took_ms = tried.took // timedelta(milliseconds=1)
        number = min(tried.number, _MOST_TRIES)
        fields = {
            f"callback:{number}": f"{rfc3339(tried.at)} {tried.result} in {took_ms} ms",
            "callback:state": tried.state,
        }
        at_once = tried.state == "delivered" and tried.number == 1
        ttl = self._settings.task_status_ttl if at_once else self._settings.task_processing_ttl
        return self._note(event.message_id, fields, tried.at, ttl, status=event.status, created_at=event.timestamp)

    async def note_started(self, message_id: str, *, stage: str, at: datetime, attempt: int) -> None:
        """Nothing: the task has ended, and is not in a stage again."""

    def note_error(self, message_id: str, *, stage: str, at: datetime, tried: FailedAttempt) -> Request[None]:
        """Record what follows the attempt that failed."""
        fields = {"callback:last_error": tried.in_words}
        return self._note(message_id, fields, at, self._settings.task_processing_ttl)

    def _note(
        self,
        message_id: str,
        fields: Mapping[str, str],
        at: datetime,
        ttl: timedelta,
        *,
        status: str = "",
        created_at: datetime | None = None,
    ) -> Request[None]:
        pairs = pairs_of({**fields, "updated_at": rfc3339(at)})
        return self._redis.request(
            _NOTE.call([status_key(message_id)], [status, rfc3339(created_at or at), milliseconds(ttl), *pairs])
        )

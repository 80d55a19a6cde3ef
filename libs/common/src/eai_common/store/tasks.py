"""A message's status and result. The formatter is the only one that writes results; every stage notes where it is.

A terminal state is final: the first one wins, and no late note of a redelivered message can undo it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, cast

from eai_common.messages import Outcome, rfc3339
from eai_common.settings.groups import TaskSettings
from eai_common.store.batch import Command
from eai_common.store.client import RedisClient
from eai_common.store.errors import map_redis_errors
from eai_common.store.scripts import Call, Script
from eai_common.store.wakeups import PUBLISH_FINISHED, PUBLISH_MOVED

__all__ = ["FailedTry", "TaskStatus", "TaskStore", "TaskView", "status_key"]

_MOST_TRIES = 20  # of each stage; later ones overwrite the last

# KEYS: status. ARGV: ttl in ms, then created_at, then field and value pairs. Returns 1 if noted, 0 if already terminal.
_NOTE = f"""
local status, stage = unpack(redis.call('HMGET', KEYS[1], 'status', 'stage'))
if status == 'completed' or status == 'failed' then return 0 end
redis.call('HSETNX', KEYS[1], 'created_at', ARGV[2])
redis.call('HSET', KEYS[1], 'status', 'processing', unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
if redis.call('HGET', KEYS[1], 'stage') ~= stage then {PUBLISH_MOVED} end
return 1
"""

# KEYS: status. ARGV: ttl in ms, now, stage, then field and value pairs.
# After the end the pairs are added all the same: the note of a last try may be slower than the end that it led to.
_NOTE_ERROR = """
local status = redis.call('HGET', KEYS[1], 'status')
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
if status == 'completed' or status == 'failed' then return 0 end
redis.call('HSETNX', KEYS[1], 'created_at', ARGV[2])
redis.call('HSET', KEYS[1], 'status', 'processing', 'stage', ARGV[3], 'updated_at', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
"""

# KEYS: status, result. ARGV: outcome, result, result ttl ms, status ttl ms, now, created_at.
# Returns the outcome that holds.
_FINISH = f"""
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'completed' or status == 'failed' then return status end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('HSETNX', KEYS[1], 'created_at', ARGV[6])
redis.call('HSET', KEYS[1], 'status', ARGV[1], 'stage', 'done', 'updated_at', ARGV[5], 'finished_at', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
{PUBLISH_FINISHED}
return ARGV[1]
"""


@dataclass(frozen=True, slots=True)
class FailedTry:
    """A try that failed; `next_in` is when the next one follows, None when it was the last."""

    number: int
    error_code: str
    next_in: timedelta | None

    @property
    def in_words(self) -> str:
        then = "given up" if self.next_in is None else f"next try in {self.next_in.total_seconds():.0f} s"
        return f"{self.error_code} ({then})"


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """Where a message is. `fields` holds the rest of the hash: timestamps, attempts, times of each stage."""

    status: Literal["processing", "completed", "failed"]
    stage: str
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def is_terminal(self) -> bool:
        return self.status != "processing"


@dataclass(frozen=True, slots=True)
class TaskView:
    """What the store knows of a message: its result if it is still there, its status if it ever was."""

    result: bytes | None
    status: TaskStatus | None


class TaskStore:
    """Status and results. Every method raises StoreUnavailable when Redis is out of reach."""

    def __init__(self, redis: RedisClient, settings: TaskSettings) -> None:
        self._redis = redis.driver
        self._settings = settings
        self._note = Script(_NOTE)
        self._note_error = redis.driver.register_script(_NOTE_ERROR)
        self._finish = redis.driver.register_script(_FINISH)

    async def note_queued(self, message_id: str, *, stage: str, at: datetime) -> None:
        """The message was accepted and waits for `stage`."""
        await self._noted(message_id, at, _queued(stage, at))

    def note_queued_call(self, message_id: str, *, stage: str, at: datetime) -> Call:
        """The same as `note_queued`, for a shared round trip."""
        return self._note_call(message_id, at, _queued(stage, at))

    def forget_command(self, message_id: str) -> Command:
        """Forgets the status of a message that was noted and then not accepted: nobody was told its id."""
        return Command(("DEL", status_key(message_id)))

    async def note_started(self, message_id: str, *, stage: str, at: datetime, attempt: int) -> None:
        """`stage` works on the message."""
        started = {
            "stage": stage,
            "attempts": str(attempt),
            "next_try_at": "",
            f"{_try_of(stage, attempt)}:started_at": rfc3339(at),
        }
        await self._noted(message_id, at, started)

    async def note_error(self, message_id: str, *, stage: str, at: datetime, tried: FailedTry) -> None:
        """A try in `stage` failed. Also noted when the task has ended meanwhile, which it then stays."""
        fields = {
            "last_error": tried.in_words,
            f"{_try_of(stage, tried.number)}:failed_at": rfc3339(at),
            f"{_try_of(stage, tried.number)}:error": tried.error_code,
        }
        if tried.next_in is not None:
            fields["next_try_at"] = rfc3339(at + tried.next_in)
            fields[f"{_try_of(stage, tried.number)}:next_in_ms"] = str(_ms(tried.next_in.total_seconds()))
        ttl = _ms(self._settings.task_processing_ttl.total_seconds())
        pairs = [part for pair in fields.items() for part in pair]
        with map_redis_errors():
            await self._note_error(keys=[status_key(message_id)], args=[ttl, rfc3339(at), stage, *pairs])

    async def finish(
        self, message_id: str, outcome: Outcome, result: bytes, *, at: datetime, accepted_at: datetime
    ) -> Outcome:
        """Store the terminal state unless there is one; the one that holds is returned."""
        with map_redis_errors():
            holds = await self._finish(
                keys=[status_key(message_id), _result_key(message_id)],
                args=[
                    outcome,
                    result,
                    _ms(self._settings.task_result_ttl.total_seconds()),
                    _ms(self._settings.task_status_ttl.total_seconds()),
                    rfc3339(at),
                    rfc3339(accepted_at),
                ],
            )
        return cast(Outcome, holds.decode())

    async def read(self, message_id: str) -> TaskView:
        """Result and status in one round trip."""
        with map_redis_errors():
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.get(_result_key(message_id))
                pipeline.hgetall(status_key(message_id))
                replies = await pipeline.execute()
        return self.view_of(replies)

    def read_commands(self, message_id: str) -> tuple[Command, Command]:
        """The same as `read`, for a shared round trip; `view_of` takes the replies."""
        return Command(("GET", _result_key(message_id))), Command(("HGETALL", status_key(message_id)))

    def view_of(self, replies: Sequence[object]) -> TaskView:
        """What the replies to `read_commands` say."""
        result, hash_ = replies
        return TaskView(cast(bytes | None, result), _status_of(cast(dict[bytes, bytes], hash_)))

    async def _noted(self, message_id: str, at: datetime, fields: dict[str, str]) -> None:
        with map_redis_errors():
            await self._note_call(message_id, at, fields).run(self._redis)

    def _note_call(self, message_id: str, at: datetime, fields: dict[str, str]) -> Call:
        now = rfc3339(at)
        pairs = [part for pair in {**fields, "updated_at": now}.items() for part in pair]
        ttl = _ms(self._settings.task_processing_ttl.total_seconds())
        return self._note.call([status_key(message_id)], [ttl, now, *pairs])


def _queued(stage: str, at: datetime) -> dict[str, str]:
    return {"stage": stage, "queued_at": rfc3339(at)}


def _status_of(hash_: dict[bytes, bytes]) -> TaskStatus | None:
    fields = {name.decode(): value.decode() for name, value in hash_.items()}
    status = fields.pop("status", None)
    if status not in ("processing", "completed", "failed"):
        return None
    return TaskStatus(cast(Literal["processing", "completed", "failed"], status), fields.pop("stage", ""), fields)


def _try_of(stage: str, number: int) -> str:
    return f"{stage}:try:{min(number, _MOST_TRIES)}"


def _result_key(message_id: str) -> str:
    return f"task:{{{message_id}}}"


def status_key(message_id: str) -> str:
    """The key of a message's status."""
    return f"task:status:{{{message_id}}}"


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))

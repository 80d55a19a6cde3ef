"""A message's status and result. The formatter is the only one that writes results; every stage notes where it is.

A terminal state is final: the first one wins, and no late note of a redelivered message can undo it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, cast

from eai_common.codec import PLAIN, Codec
from eai_common.messages import Outcome, rfc3339
from eai_common.settings.groups import TaskSettings
from eai_common.store.client import RedisClient
from eai_common.store.commands import Reply, Request, Script, as_hash, as_text, command, milliseconds, pairs_of
from eai_common.store.keys import message_key
from eai_common.store.wakeups import PUBLISH_FINISHED, PUBLISH_MOVED

__all__ = ["FailedAttempt", "TaskStatus", "TaskStore", "TaskView", "status_key"]

_MOST_TRIES = 20  # of each stage; later ones overwrite the last

# KEYS: status. ARGV: ttl in ms, then created_at, then field and value pairs. Returns 1 if noted, 0 if already terminal.
_NOTE = Script(f"""
local status, stage = unpack(redis.call('HMGET', KEYS[1], 'status', 'stage'))
if status == 'completed' or status == 'failed' then return 0 end
redis.call('HSETNX', KEYS[1], 'created_at', ARGV[2])
redis.call('HSET', KEYS[1], 'status', 'processing', unpack(ARGV, 3))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
if redis.call('HGET', KEYS[1], 'stage') ~= stage then {PUBLISH_MOVED} end
return 1
""")

# KEYS: status. ARGV: ttl in ms, now, stage, then field and value pairs.
# After the end the pairs are added all the same: the note of a last try may be slower than the end that it led to.
_NOTE_ERROR = Script("""
local status = redis.call('HGET', KEYS[1], 'status')
redis.call('HSET', KEYS[1], unpack(ARGV, 4))
if status == 'completed' or status == 'failed' then return 0 end
redis.call('HSETNX', KEYS[1], 'created_at', ARGV[2])
redis.call('HSET', KEYS[1], 'status', 'processing', 'stage', ARGV[3], 'updated_at', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
""")

# KEYS: status, result. ARGV: outcome, result, result ttl ms, status ttl ms, now, created_at.
# Returns the outcome that holds.
_FINISH = Script(f"""
local status = redis.call('HGET', KEYS[1], 'status')
if status == 'completed' or status == 'failed' then return status end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('HSETNX', KEYS[1], 'created_at', ARGV[6])
redis.call('HSET', KEYS[1], 'status', ARGV[1], 'stage', 'done', 'updated_at', ARGV[5], 'finished_at', ARGV[5])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
{PUBLISH_FINISHED}
return ARGV[1]
""")


@dataclass(frozen=True, slots=True)
class FailedAttempt:
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
    """Status and results."""

    def __init__(self, redis: RedisClient, settings: TaskSettings, codec: Codec = PLAIN) -> None:
        self._redis = redis
        self._codec = codec
        self._settings = settings

    def note_queued(self, message_id: str, *, stage: str, at: datetime) -> Request[None]:
        """Record that the message was accepted and waits for `stage`."""
        return self._note(message_id, at, {"stage": stage, "queued_at": rfc3339(at)})

    def forget(self, message_id: str) -> Request[None]:
        """Delete the status of a message that was not accepted in the end: no client knows its id."""
        return self._redis.request(command("DEL", status_key(message_id)))

    def note_started(self, message_id: str, *, stage: str, at: datetime, attempt: int) -> Request[None]:
        """Record that `stage` works on the message."""
        started = {
            "stage": stage,
            "attempts": str(attempt),
            "next_try_at": "",
            f"{_try_of(stage, attempt)}:started_at": rfc3339(at),
        }
        return self._note(message_id, at, started)

    def note_error(self, message_id: str, *, stage: str, at: datetime, tried: FailedAttempt) -> Request[None]:
        """Record an attempt in `stage` that failed, also when the task has ended meanwhile, which it then stays."""
        fields = {
            "last_error": tried.in_words,
            f"{_try_of(stage, tried.number)}:failed_at": rfc3339(at),
            f"{_try_of(stage, tried.number)}:error": tried.error_code,
        }
        if tried.next_in is not None:
            fields["next_try_at"] = rfc3339(at + tried.next_in)
            fields[f"{_try_of(stage, tried.number)}:next_in_ms"] = str(milliseconds(tried.next_in))
        ttl_ms = milliseconds(self._settings.task_processing_ttl)
        return self._redis.request(
            _NOTE_ERROR.call([status_key(message_id)], [ttl_ms, rfc3339(at), stage, *pairs_of(fields)])
        )

    def finish(
        self, message_id: str, outcome: Outcome, result: bytes, *, at: datetime, accepted_at: datetime
    ) -> Request[Outcome]:
        """Store the terminal state unless there is one. Gives the one that holds."""
        args = (
            outcome,
            self._codec.encode(result),
            milliseconds(self._settings.task_result_ttl),
            milliseconds(self._settings.task_status_ttl),
            rfc3339(at),
            rfc3339(accepted_at),
        )
        finishing = _FINISH.call([status_key(message_id), _result_key(message_id)], args)
        return self._redis.request(finishing, decode=lambda replies: cast(Outcome, as_text(replies[0])))

    def read(self, message_id: str) -> Request[TaskView]:
        """Result and status."""
        return self._redis.request(
            command("GET", _result_key(message_id)), command("HGETALL", status_key(message_id)), decode=self._view
        )

    def _note(self, message_id: str, at: datetime, fields: dict[str, str]) -> Request[None]:
        now = rfc3339(at)
        ttl_ms, pairs = milliseconds(self._settings.task_processing_ttl), pairs_of({**fields, "updated_at": now})
        return self._redis.request(_NOTE.call([status_key(message_id)], [ttl_ms, now, *pairs]))

    def _view(self, replies: Sequence[Reply]) -> TaskView:
        result, status = replies
        return TaskView(self._codec.decode(result) if isinstance(result, bytes) else None, _status_of(as_hash(status)))


def _status_of(stored: dict[str, bytes]) -> TaskStatus | None:
    fields = {name: value.decode() for name, value in stored.items()}
    status = fields.pop("status", None)
    if status not in ("processing", "completed", "failed"):
        return None
    return TaskStatus(cast(Literal["processing", "completed", "failed"], status), fields.pop("stage", ""), fields)


def _try_of(stage: str, number: int) -> str:
    return f"{stage}:try:{min(number, _MOST_TRIES)}"


def _result_key(message_id: str) -> str:
    return message_key("task", message_id)


def status_key(message_id: str) -> str:
    """The key of a message's status."""
    return message_key("task:status", message_id)

"""The order in which each user's messages were accepted, and who of them waits in which shape.

| key | holds |
|---|---|
| `mailbox:{+phone}` | sorted set: message ids by when they were accepted, never two at the same place |
| `mailbox:notes:{+phone}` | hash: what is known about them, field by field as below |

| field | holds |
|---|---|
| `at:<id>` | when the message last came forward: accepted, first taken up, or put off until then by a deferral |
| `front_since`, `working` | since when the first one is the first; its id once a router has taken it up |
| `parked:<id>` | the message itself, while it waits behind another |
| `runner:<id>` | which of the message's copies in the broker is the one that is worked on |
| `turn:<id>`, `of:<id>` | the ids that are answered together with the first of them; whose turn a message belongs to |
| `quiet_by:<id>` | when a first message stops waiting for more to be merged with it |
| `passed` | ids that lost their place because they were stuck; the last 20 |
| `last` | the last place that was given out |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from eai_common.store.client import RedisClient
from eai_common.store.commands import Argument, Command, Request, Script, milliseconds
from eai_common.store.keys import user_key

__all__ = ["Absent", "Behind", "Mailboxes", "MergeRule", "Spare", "Standing", "TooEarly", "YourTurn"]

_MOST_MERGED = 20
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# KEYS: mailbox, notes. ARGV: now in ms, ttl in ms, then what the script says. Times are milliseconds since 1970.
_SHARED = """
local box, notes, now = KEYS[1], KEYS[2], tonumber(ARGV[1])
local function note(field) return redis.call('HGET', notes, field) end
local function number(field) return tonumber(note(field) or '0') end
local function first() return redis.call('ZRANGE', box, 0, 0)[1] end
local function since(id) return math.max(number('at:' .. id), number('front_since')) end
local function keep() redis.call('PEXPIRE', box, ARGV[2]); redis.call('PEXPIRE', notes, ARGV[2]) end
local function is_passed(id) return string.find(note('passed') or '', id, 1, true) ~= nil end
local function remove(id)
  if note('working') == id then redis.call('HDEL', notes, 'working') end
  redis.call('HDEL', notes, 'at:' .. id, 'quiet_by:' .. id)
  return redis.call('ZREM', box, id)
end
-- What is to be woken after `before` was the first: the first one now, if it waits here and nobody has taken it up.
local function moved_up(before)
  local id = first()
  if not id then redis.call('HDEL', notes, 'front_since', 'last')
  elseif id ~= before then redis.call('HSET', notes, 'front_since', ARGV[1]) end
  keep()
  if not id or note('working') == id then return false end
  return note('parked:' .. id)
end
"""

# ARGV: id, accepted at. A place never goes before one that was given out, though the clocks of two ingresses differ.
_ENTER = Script(_SHARED + """
if redis.call('ZSCORE', box, ARGV[3]) then return 0 end
local place = math.max(tonumber(ARGV[4]), number('last') + 1)
redis.call('ZADD', box, place, ARGV[3])
redis.call('HSET', notes, 'last', place, 'at:' .. ARGV[3], ARGV[1])
keep()
return 1
""")

# ARGV: id, accepted at. By its time, but not before one that is in work.
_ENTER_LATE = Script(_SHARED + """
if redis.call('ZSCORE', box, ARGV[3]) then return 0 end
local place = tonumber(ARGV[4])
local front = redis.call('ZRANGE', box, 0, 0, 'WITHSCORES')
if front[1] and note('working') == front[1] then place = math.max(place, tonumber(front[2]) + 0.5) end
redis.call('ZADD', box, place, ARGV[3])
redis.call('HSET', notes, 'last', math.max(place, number('last')), 'at:' .. ARGV[3], ARGV[1])
keep()
return 1
""")

# ARGV: id, which copy of it this is, the message to park; then for merging: its kind ('' merges with none), the window
# in ms or '' for no merging, the longest wait for quiet in ms, most messages of a turn. The first line of a parked
# message is its kind.
_ARRIVE = Script(_SHARED + """
local id, copy, kind, window = ARGV[3], ARGV[4], ARGV[6], tonumber(ARGV[7])
local function behind(other, rank) return {'behind', other, string.format('%.0f', since(other)), rank} end
if note('of:' .. id) then return behind(note('of:' .. id), 1) end
local passed = is_passed(id)
if not passed then
  local front, rank = first(), redis.call('ZRANK', box, id)
  if not rank then return {'absent'} end
  if front ~= id then
    redis.call('HSET', notes, 'parked:' .. id, ARGV[5])
    keep()
    return behind(front, rank)
  end
end
redis.call('HDEL', notes, 'parked:' .. id)
local runner = note('runner:' .. id)
if runner and runner ~= copy then return {'spare'} end
local turn = note('turn:' .. id)
if not turn and not passed and window and kind ~= '' then
  if not note('quiet_by:' .. id) then redis.call('HSET', notes, 'quiet_by:' .. id, now + tonumber(ARGV[8])) end
  local quiet_by, found = number('quiet_by:' .. id), {id}
  local entries = redis.call('ZRANGE', box, 0, tonumber(ARGV[9]) - 1, 'WITHSCORES')
  local quiet_at = math.min(tonumber(entries[#entries]) + window, quiet_by)
  if #entries == 2 * tonumber(ARGV[9]) then quiet_at = now end
  for place = 3, #entries, 2 do
    local parked = note('parked:' .. entries[place])
    if not parked then quiet_at = quiet_by; break end
    if string.match(parked, '^[^\\n]*') ~= kind then quiet_at = now; break end
    found[#found + 1] = entries[place]
  end
  if now < quiet_at then keep(); return {'early', string.format('%.0f', math.min(window, quiet_at - now))} end
  if #found > 1 then
    turn = table.concat(found, ' ')
    redis.call('HSET', notes, 'turn:' .. id, turn)
    for place = 2, #found do redis.call('HSET', notes, 'of:' .. found[place], id) end
  end
end
redis.call('HSET', notes, 'runner:' .. id, copy)
if not passed and note('working') ~= id then redis.call('HSET', notes, 'working', id, 'at:' .. id, ARGV[1]) end
keep()
local answer = {'turn', passed and 1 or 0}
for member in string.gmatch(turn or '', '%S+') do
  if member ~= id then answer[#answer + 1] = note('parked:' .. member) end
end
return answer
""")

# ARGV: ids that have ended. The others of a turn, of which only the first is named, go on each for itself.
_END = Script(_SHARED + """
local before, removed = first(), 0
for place = 3, #ARGV do
  local id = ARGV[place]
  for member in string.gmatch(note('turn:' .. id) or '', '%S+') do redis.call('HDEL', notes, 'of:' .. member) end
  if is_passed(id) then
    removed = 1
    local left = string.gsub(note('passed'), ' ' .. string.gsub(id, '%-', '%%-'), '')
    if left == '' then redis.call('HDEL', notes, 'passed') else redis.call('HSET', notes, 'passed', left) end
  end
  removed = removed + remove(id)
  redis.call('HDEL', notes, 'parked:' .. id, 'runner:' .. id, 'turn:' .. id, 'of:' .. id)
end
-- Nothing removed: it ended before, and whoever saw to that may have died before it woke the next.
if first() == before and removed > 0 then return false end
return moved_up(before)
""")

# ARGV: id, since when it was seen to be stuck. Its turn's other messages stay with it.
_PASS = Script(_SHARED + """
local id = ARGV[3]
if first() ~= id or string.format('%.0f', since(id)) ~= ARGV[4] then return {0} end
for member in string.gmatch(note('turn:' .. id) or '', '%S+') do remove(member) end
remove(id)
local passed = (note('passed') or '') .. ' ' .. id
redis.call('HSET', notes, 'passed', string.sub(passed, -740))
return {1, moved_up(id)}
""")

# ARGV: id, until when it is put off.
_HOLD = Script(_SHARED + """
if redis.call('ZSCORE', box, ARGV[3]) then redis.call('HSET', notes, 'at:' .. ARGV[3], ARGV[4]); keep() end
return 1
""")


@dataclass(frozen=True, slots=True)
class MergeRule:
    """When messages become one turn: those of the same kind, once none came for `window`, or the first has waited for
    `longest`."""

    window: timedelta
    longest: timedelta


@dataclass(frozen=True, slots=True)
class YourTurn:
    """It may go. `parked` are the messages that go with it, in order, as they were parked."""

    parked: tuple[bytes, ...] = ()
    was_passed: bool = False  # it had been stuck, and goes out of order


@dataclass(frozen=True, slots=True)
class Behind:
    """Another one comes first, and has been where it is `since` then; `rank` 1 is the next in line."""

    first: str
    since: datetime
    rank: int


@dataclass(frozen=True, slots=True)
class TooEarly:
    """It is the first, and waits for more to be merged with it."""

    wait: timedelta


@dataclass(frozen=True, slots=True)
class Absent:
    """It has no place: it has ended, or Redis was out of reach when it was accepted."""


@dataclass(frozen=True, slots=True)
class Spare:
    """Another copy of it is being worked on, and will end it."""


Standing = YourTurn | Behind | TooEarly | Absent | Spare


class Mailboxes:
    """The mailboxes of all users."""

    def __init__(self, redis: RedisClient, ttl: timedelta) -> None:
        self._redis = redis
        self._ttl_ms = milliseconds(ttl)

    def enter(self, user_number: str, message_id: str, *, at: datetime) -> Request[None]:
        """Give a message that is being accepted the last place. A second time changes nothing."""
        return self._redis.request(self._call(_ENTER, user_number, at, message_id, _ms(at)))

    def withdraw(self, user_number: str, message_id: str, *, at: datetime) -> Request[None]:
        """Take out a message that was not accepted in the end."""
        return self._redis.request(self._call(_END, user_number, at, message_id))

    def enter_late(self, user_number: str, message_id: str, *, accepted_at: datetime, now: datetime) -> Request[None]:
        """Give one that has none a place by its time, behind what is in work."""
        return self._redis.request(self._call(_ENTER_LATE, user_number, now, message_id, _ms(accepted_at)))

    def arrive(
        self,
        user_number: str,
        message_id: str,
        *,
        copy: str,
        now: datetime,
        parked: bytes,
        merging: MergeRule | None = None,
    ) -> Request[Standing]:
        """Where the message stands. If another comes first, `parked` is kept until it is this one's turn.

        `parked` begins with a line that names its kind, for merging; an empty one merges with none. Of several copies
        in the broker, the first one whose turn it is goes, each time that it comes.
        """
        kind = parked.partition(b"\n")[0]
        rule = (merging.window // _MILLISECOND, merging.longest // _MILLISECOND) if merging else ("", "")
        arriving = self._call(_ARRIVE, user_number, now, message_id, copy, parked, kind, *rule, _MOST_MERGED)
        return self._redis.request(arriving, decode=lambda replies: _standing(replies[0]))

    def end(self, user_number: str, message_ids: Sequence[str], *, now: datetime) -> Request[bytes | None]:
        """Take the messages out. Gives the parked message that is first now and has to be woken, if there is one.

        A second time gives it again for as long as nobody has taken it up.
        """
        ending = self._call(_END, user_number, now, *message_ids)
        return self._redis.request(ending, decode=lambda replies: _woken(replies[0]))

    def pass_by(self, user_number: str, stuck: Behind, *, now: datetime) -> Request[tuple[bool, bytes | None]]:
        """Let the others go on without a first message that is stuck: whether it was so still, and what to wake."""
        passing = self._call(_PASS, user_number, now, stuck.first, _ms(stuck.since))
        return self._redis.request(passing, decode=lambda replies: _passed(replies[0]))

    def hold(self, user_number: str, message_id: str, *, until: datetime, now: datetime) -> Request[None]:
        """Note that a message is put off on purpose, which does not count as being stuck."""
        return self._redis.request(self._call(_HOLD, user_number, now, message_id, _ms(until)))

    def _call(self, script: Script, user_number: str, now: datetime, *args: Argument) -> Command:
        keys = (user_key("mailbox", user_number), user_key("mailbox:notes", user_number))
        return script.call(keys, (_ms(now), self._ttl_ms, *args))


def _passed(told: object) -> tuple[bool, bytes | None]:
    match told:
        case [1, *woken]:
            return True, _woken(woken[0] if woken else None)
        case _:
            return False, None


def _woken(told: object) -> bytes | None:
    return told if isinstance(told, bytes) else None


def _standing(told: object) -> Standing:
    match told:
        case [b"turn", passed, *parked]:
            return YourTurn(tuple(part for part in parked if isinstance(part, bytes)), bool(passed))
        case [b"behind", bytes(first), bytes(since), int(rank)]:
            return Behind(first.decode(), _EPOCH + int(since) * _MILLISECOND, rank)
        case [b"early", bytes(wait)]:
            return TooEarly(int(wait) * _MILLISECOND)
        case [b"spare"]:
            return Spare()
        case _:
            return Absent()


def _ms(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND

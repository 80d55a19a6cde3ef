"""The calls of `machine.py` as scripts in Redis: function by function the same, on one hash for each user.

| key | holds |
|---|---|
| `inbox:{+phone}` | hash: the inbox, field by field as below |
| `ended:{+phone}:<id>` | the number of the message's last run that has ended |

| field | holds |
|---|---|
| `order` | the ids of the open messages, by place |
| `entry:<id>` | place, replay, entered at, is heard, mode, group |
| `body:<id>`, `outcome:<id>` | as they are |
| `turn` | owner (`-`: nobody), since, then what `CurrentTurn` has, up to first asked, and a ref for each message |
| `errors` | of the turn |
| `lease` | owner, until |
| `last` | the highest place that has left |

One hash and no sorted set beside it, so that no part of an inbox can be lost without the others. All keys of a script
have one hash tag. Time is Redis's own.

Each script but `accept` begins with a PEXPIRE. A full Redis refuses a script's first write if that needs memory; after
one that needs none it lets the others through (tried: 6.2.5, 7.0.15). So a full Redis takes no new message, and drains.
"""

from __future__ import annotations

from eai_common.store.commands import Script

__all__ = ["ACCEPT", "ASK", "BEGIN", "CANCEL", "EMITTED", "HAND_OVER", "LATER", "RECORD", "RENEW", "WITHDRAW"]

# What reads Redis's clock; tests of the scripts put their own time here.
READ_CLOCK = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

# KEYS: the inbox, then what the script says. ARGV: ttl in ms, the rules, then what the script says. A message of a turn
# is named by its ref, `id/replay`.
_STATE = """
local inbox, ttl = KEYS[1], ARGV[1]
local rules, named = {}, {'fail_if_uncertain', 'most_lost', 'turn_size', 'lease_ms', 'window_ms', 'transcript_ms'}
for value in string.gmatch(ARGV[2], '%d+') do rules[table.remove(named, 1)] = tonumber(value) end
local stored = redis.call('HMGET', inbox, 'order', 'turn', 'lease', 'last')
local order, entries, turn, lease, last = {}, {}, nil, nil, tonumber(stored[4] or '0')
for id in string.gmatch(stored[1] or '', '%S+') do order[#order + 1] = id end
if stored[3] then
  local owner, ends = string.match(stored[3], '^(%S+) (%d+)$')
  lease = {owner = owner, ends = tonumber(ends)}
end
if stored[2] then
  local words = {}
  for word in string.gmatch(stored[2], '%S+') do words[#words + 1] = word end
  turn = {
    owner = words[1], since = words[2], is_asked = words[3] == '1', is_uncertain = words[4] == '1',
    is_interrupted = words[5] == '1', attempts = words[6], lost = tonumber(words[7]),
    not_before = tonumber(words[8]), first_asked = tonumber(words[9]), refs = {unpack(words, 10)},
  }
end

local errors  -- of the turn, if this script changes them; '' for none
local is_reordered = false

local function whole(number) return string.format('%.0f', number) end
local function flag(truth) return truth and 1 or 0 end
local function id_of(ref) return string.match(ref, '^(.*)/') end

local function find(id)
  if entries[id] == nil then
    local told = redis.call('HGET', inbox, 'entry:' .. id)
    if not told then return nil end
    local place, replay, entered, heard, mode, group = string.match(told, '^(%d+) (%d+) (%d+) (%d) (%a+) (.*)$')
    entries[id] = {
      id = id, ref = id .. '/' .. replay, place = tonumber(place), replay = tonumber(replay),
      entered = tonumber(entered), is_heard = heard == '1', mode = mode, group = group,
      outcome = redis.call('HEXISTS', inbox, 'outcome:' .. id) == 1,
    }
  end
  return entries[id]
end

local function put(entry)
  entries[entry.id] = entry
  local numbers = {whole(entry.place), whole(entry.replay), whole(entry.entered), flag(entry.is_heard)}
  local told = table.concat(numbers, ' ') .. ' ' .. entry.mode .. ' ' .. entry.group
  redis.call('HSET', inbox, 'entry:' .. entry.id, told)
end

local function end_with(entry, outcome)
  entry.outcome = true
  redis.call('HSET', inbox, 'outcome:' .. entry.id, outcome)
end

local function remove(id)
  for place, other in ipairs(order) do
    if other == id then table.remove(order, place); break end
  end
  entries[id], is_reordered = nil, true
  redis.call('HDEL', inbox, 'entry:' .. id, 'body:' .. id, 'outcome:' .. id)
end

-- An inbox that is empty is written anew: a hash that held a body once would stay four times as large.
local function save()
  if #order == 0 and not turn and not lease then
    redis.call('DEL', inbox)
    redis.call('HSET', inbox, 'last', whole(last))
    redis.call('PEXPIRE', inbox, ttl)
    return
  end
  local changed = {}
  local function change(field, value) changed[#changed + 1], changed[#changed + 2] = field, value end
  if is_reordered then change('order', table.concat(order, ' ')); change('last', whole(last)) end
  if turn then
    local told = {
      turn.owner, turn.since, flag(turn.is_asked), flag(turn.is_uncertain), flag(turn.is_interrupted), turn.attempts,
      turn.lost, whole(turn.not_before), whole(turn.first_asked), unpack(turn.refs),
    }
    change('turn', table.concat(told, ' '))
    if errors then change('errors', errors) end
  elseif stored[2] then
    redis.call('HDEL', inbox, 'turn', 'errors')
  end
  if lease then
    change('lease', lease.owner .. ' ' .. whole(lease.ends))
  elseif stored[3] then
    redis.call('HDEL', inbox, 'lease')
  end
  if #changed > 0 then redis.call('HSET', inbox, unpack(changed)) end
  if not is_kept then redis.call('PEXPIRE', inbox, ttl) end
end
"""

_PARTS = """
local NOBODY = '-'

local function is_granted(owner, since) return turn and turn.owner == owner and turn.since == since end
local function live_lease() return lease and lease.ends > now and lease or nil end
local function take_lease(owner) lease = {owner = owner, ends = now + rules.lease_ms} end
local function free(owner) if lease and lease.owner == owner then lease = nil end end

local function is_in_turn(ref)
  for _, other in ipairs(turn and turn.refs or {}) do
    if other == ref then return true end
  end
  return false
end

local function is_valid()
  if not turn or #turn.refs == 0 then return false end
  for _, ref in ipairs(turn.refs) do
    local entry = find(id_of(ref))
    if not entry or entry.ref ~= ref or entry.outcome then return false end
  end
  return true
end

local function is_repeatable()
  for _, ref in ipairs(turn.refs) do
    local entry = find(id_of(ref))
    if entry and entry.ref == ref and entry.group ~= '' then return false end
  end
  return true
end

local function wants_to_join(entry, first)
  local is_alike = entry.group == first.group and first.group ~= '' and entry.replay == 0 and first.replay == 0
  return is_alike and (entry.mode == 'merge' or entry.mode == 'interrupt') and not entry.outcome
end

local function together(first)
  local refs, is_after = {first.ref}, false
  for _, id in ipairs(order) do
    if is_after then
      local entry = find(id)
      if #refs == rules.turn_size or not (wants_to_join(entry, first) and entry.is_heard) then break end
      refs[#refs + 1] = entry.ref
    end
    is_after = is_after or id == first.id
  end
  return refs
end

local function has_all(refs, others)
  local known = {}
  for _, ref in ipairs(refs) do known[ref] = true end
  for _, ref in ipairs(others) do
    if not known[ref] then return false end
  end
  return true
end

local function interrupt(entry)
  if entry.mode ~= 'interrupt' or not is_valid() or turn.lost > 0 then return end
  if has_all(together(find(id_of(turn.refs[1]))), {entry.ref}) then turn.is_interrupted = true end
end

-- `failure` is an outcome or nil. The first write needs memory: a full Redis refuses it, if nothing was written before.
local function enter(id, replay, place, is_heard, mode, group, body, failure)
  local behind = #order
  while behind > 0 do
    local other = find(order[behind])
    if other.place < place or (other.place == place and other.id < id) then break end
    behind = behind - 1
  end
  table.insert(order, behind + 1, id)
  is_reordered = true
  local entry = {
    id = id, ref = id .. '/' .. whole(replay), place = place, replay = replay, entered = now, is_heard = is_heard,
    mode = mode, group = group, outcome = false,
  }
  put(entry)
  redis.call('HSET', inbox, 'body:' .. id, body)
  if failure then end_with(entry, failure) end
  interrupt(entry)
end

-- `ended` is what the key of that name holds.
local function leave(ref, key)
  local id, replay = id_of(ref), tonumber(string.match(ref, '[^/]*$'))
  local entry, ended = find(id), redis.call('GET', key)
  if entry and entry.replay > replay or ended and tonumber(ended) > replay then return end
  if entry then
    last = math.max(last, entry.place)
    remove(id)
  end
  redis.call('SET', key, whole(replay), 'PX', ttl)
end
"""

# `own` is the ref of the delivery's own message, `own_ended` the key that tells of its end.
_NEXT = """
local function has_ended(own, own_ended)
  local ended = redis.call('GET', own_ended)
  return ended and tonumber(ended) >= tonumber(string.match(own, '[^/]*$')) or false
end

local function wait(own, own_ended, delay)
  if has_ended(own, own_ended) then return {'wait', whole(delay), 0, 1} end
  if is_in_turn(own) then return {'wait', whole(delay), 0, 0} end
  local rank, before = 0, 0
  for _, id in ipairs(order) do
    if not is_in_turn(find(id).ref) then
      if id == id_of(own) then rank = before; break end
      before = before + 1
    end
  end
  return {'wait', whole(delay), rank + flag(turn and #turn.refs > 0), 0}
end

local function take_over()
  if turn.is_asked then
    turn.is_uncertain = not is_repeatable()
    turn.is_asked, turn.lost = false, turn.lost + 1
  elseif turn.is_interrupted and turn.lost == 0 and not (turn.is_uncertain and rules.fail_if_uncertain == 1) then
    local refs = together(find(id_of(turn.refs[1])))
    if #refs > #turn.refs and has_all(refs, turn.refs) then
      turn.refs, turn.attempts, turn.first_asked = refs, 0, 0
      errors = ''
    end
  end
  turn.is_interrupted = false
end

local function reason_to_fail(first)
  if not first.is_heard then return 'TRANSCRIPTION_ERROR' end
  if turn.lost > rules.most_lost then return 'POISON_MESSAGE' end
  if turn.is_uncertain and rules.fail_if_uncertain == 1 then return 'AGENT_OUTCOME_UNKNOWN' end
  return nil
end

local function hand_out(own, own_ended, owner)
  if turn.owner ~= owner then
    if turn.not_before > now then return wait(own, own_ended, turn.not_before - now) end
    take_over()
    turn.owner, turn.since = owner, whole(now)
  end
  take_lease(owner)
  local told = errors or redis.call('HGET', inbox, 'errors') or ''
  local answer = {'turn', turn.since, turn.attempts, turn.lost, flag(turn.is_uncertain), told}
  local code = reason_to_fail(find(id_of(turn.refs[1])))
  if code then answer = {'fail', turn.since, code, told} end
  for _, ref in ipairs(turn.refs) do
    answer[#answer + 1], answer[#answer + 2] = ref, redis.call('HGET', inbox, 'body:' .. id_of(ref))
  end
  return answer
end

local function emissions()
  local answer, after = {'emit'}, last
  for place = 1, math.min(#order, rules.turn_size) do
    local entry = find(order[place])
    if not entry.outcome then break end
    local outcome, body = unpack(redis.call('HMGET', inbox, 'outcome:' .. entry.id, 'body:' .. entry.id))
    local words = {entry.ref, outcome, body, whole(entry.place), whole(after)}
    for _, word in ipairs(words) do answer[#answer + 1] = word end
    after = math.max(after, entry.place)
  end
  return answer
end

local function quiet_at(refs)
  local first, newest = find(order[1]), find(order[#refs])
  if first.mode ~= 'merge' or #refs == rules.turn_size then return 0 end
  local longest = first.entered + 5 * rules.window_ms
  if #refs == #order then return math.min(newest.entered + rules.window_ms, longest) end
  return wants_to_join(find(order[#refs + 1]), first) and longest or 0
end

local function next_step(own, own_ended, owner)
  local live = live_lease()
  if live and live.owner ~= owner then return wait(own, own_ended, live.ends - now) end
  if not is_valid() then turn = nil end
  if turn then return hand_out(own, own_ended, owner) end
  if #order == 0 then return has_ended(own, own_ended) and {'done'} or {'wait', '0', 0, 0} end
  local first = find(order[1])
  if first.outcome then
    take_lease(owner)
    return emissions()
  end
  local refs, delay = {first.ref}, first.entered + rules.transcript_ms - now
  if first.is_heard then
    refs = together(first)
    delay = quiet_at(refs) - now
  end
  if delay > 0 then return wait(own, own_ended, delay) end
  turn = {
    owner = NOBODY, since = '0', is_asked = false, is_uncertain = false, is_interrupted = false, attempts = 0,
    lost = 0, not_before = 0, first_asked = 0, refs = refs,
  }
  errors = ''
  return hand_out(own, own_ended, owner)
end
"""

# A first write that needs no memory, so that a full Redis lets those that follow through.
_KEEP = "local is_kept = redis.call('PEXPIRE', KEYS[1], ARGV[1]) == 1\n"


def _script(text: str, *, parts: str = _PARTS, keep: str = _KEEP) -> Script:
    return Script(keep + READ_CLOCK + _STATE + parts + text)


# KEYS: inbox, ended. ARGV: id, accepted at, is heard, mode, group, body, replay, is late.
ACCEPT = _script(
    """
local id, replay, is_late = ARGV[3], tonumber(ARGV[9]), ARGV[10] == '1'
local ended, entry = redis.call('GET', KEYS[2]), find(id)
if ended and replay <= tonumber(ended) then return {'ended'} end
if entry or replay > 0 then return {'accepted', flag(entry and entry.outcome)} end
if ARGV[6] == 'reject' and not is_late then
  for _, other in ipairs(order) do
    if not find(other).outcome then return {'rejected', other} end
  end
end
local place = tonumber(ARGV[4])
if not is_late then
  place = math.max(place, last + 1, #order > 0 and find(order[#order]).place + 1 or 0)
end
enter(id, replay, place, ARGV[5] == '1', ARGV[6], ARGV[7], ARGV[8])
save()
return {'accepted', 0}
""",
    keep="local is_kept = false\n",
)

# ARGV: id.
WITHDRAW = _script("""
local entry = find(ARGV[3])
if entry and not entry.outcome and entry.replay == 0 and not is_in_turn(entry.ref) then
  remove(entry.id)
  save()
end
return {'withdrawn'}
""")

# KEYS: inbox, ended. ARGV: id.
CANCEL = _script("""
local entry = find(ARGV[3])
if not entry then return {redis.call('EXISTS', KEYS[2]) == 1 and 'answered' or 'unknown'} end
local outcome, body = unpack(redis.call('HMGET', inbox, 'outcome:' .. entry.id, 'body:' .. entry.id))
if outcome then return outcome == '' and {'cancelled', body} or {'answered'} end
end_with(entry, '')
if is_in_turn(entry.ref) then
  local left = {}
  for _, ref in ipairs(turn.refs) do
    if ref ~= entry.ref then left[#left + 1] = ref end
  end
  turn.refs, turn.is_interrupted = left, true
end
save()
return {'cancelled', body}
""")

# KEYS: inbox, ended. ARGV: id, accepted at, is heard, mode, group, body, replay, owner, has failed, failure.
BEGIN = _script(
    """
local id, replay, failure = ARGV[3], tonumber(ARGV[9]), ARGV[11] == '1' and ARGV[12] or nil
local ended, entry = redis.call('GET', KEYS[2]), find(id)
if ended and replay <= tonumber(ended) then return {'done'} end
if not entry then
  redis.call('DEL', KEYS[2])
  enter(id, replay, tonumber(ARGV[4]), ARGV[5] == '1', ARGV[6], ARGV[7], ARGV[8], failure)
elseif not entry.is_heard and not entry.outcome then
  if failure then
    end_with(entry, failure)
  else
    entry.is_heard = true
    put(entry)
    redis.call('HSET', inbox, 'body:' .. id, ARGV[8])
    interrupt(entry)
  end
end
local answer = next_step(id .. '/' .. ARGV[9], KEYS[2], ARGV[10])
save()
return answer
""",
    parts=_PARTS + _NEXT,
)

# ARGV: owner, since, attempt.
ASK = _script("""
if not is_granted(ARGV[3], ARGV[4]) then return {'lost'} end
if turn.is_interrupted then return {'held', 1} end
turn.is_asked, turn.attempts = true, ARGV[5]
if turn.first_asked == 0 then turn.first_asked = now end
if not live_lease() then take_lease(ARGV[3]) end
save()
return {'held', 0}
""")

# ARGV: owner, since, delay in ms, is sure, attempts, errors, give up after so many ms or -1.
LATER = _script("""
if not is_granted(ARGV[3], ARGV[4]) then
  if lease and lease.owner == ARGV[3] then
    free(ARGV[3])
    save()
  end
  return {'lost'}
end
local give_up_after = tonumber(ARGV[9])
if give_up_after >= 0 and turn.first_asked > 0 and turn.first_asked + give_up_after <= now then
  for _, id in ipairs(order) do
    local entry = find(id)
    if not entry.outcome and not is_in_turn(entry.ref) then return {'overdue'} end
  end
end
turn.is_uncertain = turn.is_uncertain or (turn.is_asked and ARGV[6] ~= '1' and not is_repeatable())
turn.owner, turn.since, turn.is_asked, turn.attempts = NOBODY, '0', false, ARGV[7]
turn.not_before = now + tonumber(ARGV[5])
errors = ARGV[8]
free(ARGV[3])
save()
return {'postponed'}
""")

# KEYS: inbox, ended of own. ARGV: owner, since, own, fresh, then ref and outcome of each message.
RECORD = _script(
    """
if is_valid() and is_granted(ARGV[3], ARGV[4]) then
  local refs, outcomes = {}, {}
  for place = 7, #ARGV, 2 do
    refs[#refs + 1] = ARGV[place]
    outcomes[ARGV[place]] = ARGV[place + 1]
  end
  if #refs ~= #turn.refs or not has_all(refs, turn.refs) then return {'changed', unpack(turn.refs)} end
  for _, ref in ipairs(refs) do end_with(find(id_of(ref)), outcomes[ref]) end
  turn = nil
end
free(ARGV[3])
local answer = next_step(ARGV[5], KEYS[2], ARGV[6])
save()
return answer
""",
    parts=_PARTS + _NEXT,
)

# KEYS: inbox, ended of own, ended of each. ARGV: owner, own, fresh, refs.
EMITTED = _script(
    """
for place = 6, #ARGV do leave(ARGV[place], KEYS[place - 3]) end
free(ARGV[3])
local answer = next_step(ARGV[4], KEYS[2], ARGV[5])
save()
return answer
""",
    parts=_PARTS + _NEXT,
)

# As EMITTED, without fresh. What would come next is only looked at, after all has been written.
HAND_OVER = _script(
    """
for place = 5, #ARGV do leave(ARGV[place], KEYS[place - 2]) end
free(ARGV[3])
save()
local answer = next_step(ARGV[4], KEYS[2], 'next')
if answer[1] == 'wait' or answer[1] == 'done' then return answer end
return {'hand over', redis.call('HGET', inbox, 'body:' .. order[1]), flag(has_ended(ARGV[4], KEYS[2]))}
""",
    parts=_PARTS + _NEXT,
)

# ARGV: owner, since.
RENEW = _script("""
local live, has_turn = live_lease(), is_granted(ARGV[3], ARGV[4])
if live and live.owner ~= ARGV[3] or not live and not has_turn then return {'lost'} end
take_lease(ARGV[3])
save()
return {'held', flag(has_turn and turn.is_interrupted)}
""")

-- Decides what a delivered work message means, and starts the job if it is to be started.
-- KEYS  1-5 as in change.lua   6 the set it leaves   7 the set it enters
-- ARGV  1 member of sets   2 dispatch number   3 '1' if redelivered   4 owner   5 nonce
--       6 lease in ms   7 '1' if nothing else runs in the worker   8 attempts allowed
--       9 the word of a queued job   10 of a running one   11 event   12 outbox bound
--       13 epoch   14 '1' if this process surely does not run it
--       15 payload (only where it was redelivered)   16 attempts in a row without an outcome
--       after which the next one runs alone
-- Returns  start attempt fence revision alone | drop state | attach fence | detached | wait
--          | cancel fence | exhausted fence attempt | none
-- Atomic because two workers may hold a message of the same job.
-- Bounded by a constant.
local seen = redis.call('HMGET', KEYS[1], 'record', 'state', 'revision', 'fence', 'dispatch',
  'attempt', 'deadline', 'dispatched_at', 'notify', 'waits')
if not seen[1] then return 'none' end
if seen[1] ~= 'job' then return 'drop ' .. seen[1] end
local state, fence = seen[2], seen[4] or '0-'
local attempt = number(seen[6])
local at = now_ms()
local starts = number(string.match(fence, '^%d+')) + 1
-- Only a job that was started before can have been asked to stop, or left without an outcome.
local is_cancel_asked, lost = false, 0
if starts > 1 then
  local past = redis.call('HMGET', KEYS[1], 'cancel_requested', 'lost')
  is_cancel_asked, lost = past[1], number(past[2] or '0')
end
local from_set = KEYS[6]

if state == ARGV[10] then
  local run = redis.call('HMGET', KEYS[1], 'owner', 'lease_until', 'detached', 'epoch', 'alone')
  -- This very claim again: its first answer was lost on the way.
  if string.match(fence, '%-(.*)$') == ARGV[5] then
    return table.concat({ 'start', seen[6], fence, seen[3], run[5] or '' }, ' ')
  end
  if run[3] or seen[5] ~= ARGV[2] then return 'drop ' .. state end
  local is_left = tonumber(run[2] or 0) <= at
  -- The store was rolled back since: its end was lost with its message, and it was sent again.
  local is_again = ARGV[3] == '1' or (is_left and run[4] ~= ARGV[13])
  if not is_again then return 'drop ' .. state end
  if run[1] == ARGV[4] and ARGV[14] ~= '1' then return 'attach ' .. fence end
  if not is_left then
    -- Its owner lives, or lived a moment ago: the lease decides, and the scheduler watches it.
    redis.call('HSET', KEYS[1], 'detached', 1, 'payload', ARGV[15])
    set_timer(ARGV[1], tonumber(run[2]), seen[7], '0')
    return 'detached'
  end
  if is_cancel_asked then return 'cancel ' .. fence end
  if attempt >= number(ARGV[8]) then return 'exhausted ' .. fence .. ' ' .. seen[6] end
  lost = lost + 1
  from_set = KEYS[7]
elseif state == ARGV[9] then
  if seen[5] ~= ARGV[2] then return 'drop ' .. state end
  if seen[7] and tonumber(seen[7]) <= at then return 'drop ' .. state end
  if is_cancel_asked then return 'cancel ' .. fence end
else
  return 'drop ' .. state
end

attempt = attempt + 1
-- Ended without an outcome: it may have been a neighbour, or the machine. Often in a row, or with
-- one attempt left: it is to show what it does, and nobody is to be charged for it.
local is_suspect = lost >= number(ARGV[16]) or attempt >= number(ARGV[8])
local alone = lost > 0 and is_suspect and '1' or ''
if alone == '1' and ARGV[7] ~= '1' then return 'wait' end
local revision = number(seen[3]) + 1
fence = text(starts) .. '-' .. ARGV[5]
redis.call('HSET', KEYS[1], 'state', ARGV[10], 'revision', text(revision),
  'changed_at', text(at), 'started_at', text(at), 'attempt', text(attempt), 'fence', fence,
  'owner', ARGV[4], 'lease_until', text(at + number(ARGV[6])), 'attempts_allowed', ARGV[8],
  'epoch', ARGV[13])
-- What belongs to an earlier run, also to one that was given back and not counted, or to the time
-- before the dispatch.
local has_past = starts > 1 or seen[8]
if has_past then
  redis.call('HDEL', KEYS[1], 'stage', 'progress', 'progress_note', 'error', 'payload', 'due_at',
    'dispatched_at', 'detached', 'parked_reason', 'report_hash', 'alone')
end
if lost > 0 then redis.call('HSET', KEYS[1], 'lost', lost) end
if alone == '1' then redis.call('HSET', KEYS[1], 'alone', alone) end
move(ARGV[1], at, from_set, KEYS[7])
-- A job that was dispatched at once has no timer.
if has_past or seen[7] then set_timer(ARGV[1], nil, seen[7], '0') end
remember(revision, at, ARGV[11], ARGV[10], attempt, '', false)
notify(seen[9], seen[10], ARGV[10], ARGV[10], '0', revision, at, attempt, number(ARGV[12]))
return table.concat({ 'start', text(attempt), fence, text(revision), alone }, ' ')

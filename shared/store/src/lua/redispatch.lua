-- What follows when a work message has not arrived, as far as anybody knows, or is gone: a queued
-- job gets its next dispatch number; a run that nothing would bring back is detached.
-- KEYS  1 the job   2 the timers
-- ARGV  1 member of sets   2 the number that was seen   3 ms until it is looked at again
--       4 the word of a queued job   5 of a running one
--       6 '1' if the message is gone, and this was in it: 7 payload
-- Returns  the new number | watched | nothing if the job has moved on, or there is no payload, or
--          it runs and its message is not known to be gone
-- Atomic because a worker may claim it, end it, or let its lease be watched, at the same time.
-- Bounded by a constant.
local seen = redis.call('HMGET', KEYS[1], 'state', 'dispatch', 'deadline', 'lease_until',
  'detached')
if seen[2] ~= ARGV[2] then return false end
local is_gone = ARGV[6] == '1'

-- When it is looked at again: also now at its deadline, if that comes first.
local function look(at)
  redis.call('ZADD', KEYS[2], math.min(at, tonumber(seen[3]) or at), ARGV[1])
end

if seen[1] == ARGV[5] then
  if not is_gone then return false end
  -- Its owner may be dead, and nobody would know: from now on the lease decides.
  if not seen[5] then
    redis.call('HSET', KEYS[1], 'detached', 1, 'payload', ARGV[7])
    look(tonumber(seen[4]) or 0)
  end
  return 'watched'
end

if seen[1] ~= ARGV[4] then return false end
-- Without a payload nothing can be sent, and the number that is out must stay good.
if is_gone then
  redis.call('HSET', KEYS[1], 'payload', ARGV[7])
elseif redis.call('HEXISTS', KEYS[1], 'payload') == 0 then
  return false
end
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'dispatched_at', at)
look(at + tonumber(ARGV[3]))
return redis.call('HINCRBY', KEYS[1], 'dispatch', 1)

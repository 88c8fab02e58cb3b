-- Gives a queued job its next dispatch number, because nothing says that the last one arrived.
-- KEYS  1 the job   2 the timers
-- ARGV  1 member of sets   2 the number that was seen   3 ms until it is looked at again
--       4 the word of a queued job   5 payload ('' it must be here already)
-- Returns  the new number, or nothing if the job has moved on
-- Bounded by a constant.
local seen = redis.call('HMGET', KEYS[1], 'state', 'dispatch', 'deadline')
if seen[1] ~= ARGV[4] or seen[2] ~= ARGV[2] then return false end
-- Without a payload nothing can be sent, and the number that is out must stay good.
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[1], 'payload', ARGV[5])
elseif redis.call('HEXISTS', KEYS[1], 'payload') == 0 then
  return false
end
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'dispatched_at', at)
-- Its one timer: also now its deadline, if that comes first.
local again = at + tonumber(ARGV[3])
redis.call('ZADD', KEYS[2], math.min(again, tonumber(seen[3]) or again), ARGV[1])
return redis.call('HINCRBY', KEYS[1], 'dispatch', 1)

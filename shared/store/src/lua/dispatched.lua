-- The broker has confirmed a dispatch: the payload is in the work queue now, not here.
-- KEYS  1 the job   2 the timers
-- ARGV  1 member of sets   2 dispatch number   3 the word of a queued job
-- Returns  1 if the number was still the current one
-- Bounded by a constant.
local seen = redis.call('HMGET', KEYS[1], 'state', 'dispatch', 'deadline', 'dispatched_at')
-- Without the instant it was claimed since, and queued again under the same number: the payload is
-- of that run.
if seen[1] ~= ARGV[3] or seen[2] ~= ARGV[2] or not seen[4] then return 0 end
redis.call('HDEL', KEYS[1], 'payload', 'due_at')
if seen[3] then
  redis.call('ZADD', KEYS[2], seen[3], ARGV[1])
else
  redis.call('ZREM', KEYS[2], ARGV[1])
end
return 1

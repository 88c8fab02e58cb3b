-- Answers those who have waited for a job for as long as they wanted to.
-- KEYS  1-5 as in change.lua   6 the jobs that somebody waits for
-- ARGV  1 member of sets
-- Returns  how many were answered
-- Not a change: the revision stays.
-- Bounded by how many may wait for one job.
local seen = redis.call('HMGET', KEYS[1], 'waits', 'client', 'job_id')
redis.call('ZREM', KEYS[6], ARGV[1])
if not seen[1] then return 0 end
local at, answered, next_at = now_ms(), 0, nil
local kept = answer_waits(seen[1], seen[2], seen[3], function(wait)
  if wait.until_ms > at then return false end
  answered = answered + 1
  return true
end)
for _, wait in ipairs(kept) do
  if not next_at or wait.until_ms < next_at then next_at = wait.until_ms end
end
if next_at then redis.call('ZADD', KEYS[6], next_at, ARGV[1]) end
return answered

-- Stores the hash of the report token of a run, so that what it hands over can be reported on.
-- KEYS  1 the job
-- ARGV  1 fence   2 hash
-- Returns  1 if the run still has the right to
-- Not a change: the revision stays.
-- Bounded by a constant.
local seen = redis.call('HMGET', KEYS[1], 'fence', 'owner')
-- The fence stays in the record when the run has ended; its owner does not.
if seen[1] ~= ARGV[1] or not seen[2] then return 0 end
redis.call('HSET', KEYS[1], 'report_hash', ARGV[2])
return 1

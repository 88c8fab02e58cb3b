-- Names the job that repeats a finished one.
-- KEYS  1 the job
-- ARGV  1 the other's job id
-- Not a change: the revision stays.
-- Bounded by a constant.
if redis.call('HGET', KEYS[1], 'record') ~= 'job' then return 0 end
redis.call('HSET', KEYS[1], 'replayed_as', ARGV[1])
return 1

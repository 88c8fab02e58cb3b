-- Makes an identifier unusable that is no job's.
-- KEYS  1 the job
-- ARGV  1 client   2 job id
-- Returns  the kind of record that stands there now
-- Bounded by a constant.
local record = redis.call('HGET', KEYS[1], 'record')
if record and record ~= 'refused' then return record end
redis.call('DEL', KEYS[1])
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'record', 'voided', 'client', ARGV[1], 'job_id', ARGV[2],
  'voided_at', at)
return 'voided'

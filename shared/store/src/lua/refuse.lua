-- Leaves a record of a refused submission, unless the identifier is a job's or voided.
-- KEYS  1 the job
-- ARGV  1 ms that it is kept   2… field, value, …
-- Returns  1 if written
-- Bounded by the number of fields.
local record = redis.call('HGET', KEYS[1], 'record')
if record and record ~= 'refused' then return 0 end
redis.call('DEL', KEYS[1])
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'record', 'refused', 'refused_at', at, unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1

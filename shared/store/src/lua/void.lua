-- Makes an identifier unusable that is no job's.
-- KEYS  1 the job
-- ARGV  1 client   2 job id   3 ms that it stays so (0 for ever)   4 '1' if a refused submission's
--       record gives way
-- Returns  the kind of record that stands there now
-- Bounded by a constant.
local record = redis.call('HGET', KEYS[1], 'record')
if record and (record ~= 'refused' or ARGV[4] ~= '1') then return record end
redis.call('DEL', KEYS[1])
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], 'record', 'voided', 'client', ARGV[1], 'job_id', ARGV[2],
  'voided_at', at)
if tonumber(ARGV[3]) > 0 then
  redis.call('HSET', KEYS[1], 'expires_at', at + tonumber(ARGV[3]))
  redis.call('PEXPIREAT', KEYS[1], at + tonumber(ARGV[3]))
end
return 'voided'

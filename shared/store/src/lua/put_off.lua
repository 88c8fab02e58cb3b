-- Puts an entry off: it stays in the outbox and is tried again later.
-- KEYS  1 the outbox   2 entries put off
-- ARGV  1 group   2 entry   3 ms until it is tried again   4 the member it had ('' none)
--       5 the member it gets
-- Bounded by a constant.
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if ARGV[4] ~= '' then redis.call('ZREM', KEYS[2], ARGV[4]) end
redis.call('ZADD', KEYS[2], at + tonumber(ARGV[3]), ARGV[5])
return 1

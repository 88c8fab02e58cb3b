-- The jobs whose timer has run out, oldest first.
-- KEYS  1 the timers
-- ARGV  1 how many at most
-- Returns  the store's time in ms, then the members
-- Bounded by ARGV 1.
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
local members = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', at, 'LIMIT', 0, tonumber(ARGV[1]))
table.insert(members, 1, tostring(at))
return members

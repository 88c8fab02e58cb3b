-- Drops a timer that has no meaning any more, unless it was set anew.
-- KEYS  1 the timers   ARGV  1 member of sets   2 the store's time when it was read
-- Bounded by a constant.
local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
if score and tonumber(score) <= tonumber(ARGV[2]) then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 1

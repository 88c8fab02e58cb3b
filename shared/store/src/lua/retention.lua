-- Says for how long finished jobs are kept.
-- KEYS  1 the retention
-- ARGV  1… outcome or type/outcome, ms, …
-- Atomic because a job that finishes in between would be kept for ever.
-- Bounded by the number of texts.
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV))
return 1

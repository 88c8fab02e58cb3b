-- Puts a message that is no event (a receipt that was not confirmed in time) into the outbox.
-- KEYS  1 the outbox   2 events waiting, by client
-- ARGV  1 client   2… field, value, …
-- Bounded by the number of fields.
redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
return 1

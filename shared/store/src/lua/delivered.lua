-- Takes an entry out of the outbox and writes its end into the job's ledger.
-- KEYS  1 the outbox   2 events waiting, by client   3 entries put off   4 the job
-- ARGV  1 group   2 entry   3 client   4 member of the put-off set ('' none)
--       5 '1' if it is an event   6 revision   7 why it could not be delivered ('' it was)
--       8 the queue that it was for
-- Not a change: the revision stays.
-- Bounded by a constant.
if redis.call('XDEL', KEYS[1], ARGV[2]) == 0 then return 0 end
redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
if redis.call('HINCRBY', KEYS[2], ARGV[3], -1) <= 0 then redis.call('HDEL', KEYS[2], ARGV[3]) end
if ARGV[4] ~= '' then redis.call('ZREM', KEYS[3], ARGV[4]) end
local seen = redis.call('HMGET', KEYS[4], 'record', 'delivered_revision', 'undeliverable_from',
  'notify_to', 'reply_to')
-- Not of an identifier that was refused, voided or forgotten altogether; a tombstone has a ledger.
if seen[1] ~= 'job' and seen[1] ~= 'retired' then return 1 end
-- The ledger is of the queue that events go to now. An earlier one was given up by the client.
if ARGV[5] == '1' and ARGV[8] ~= (seen[4] or seen[5] or '') then return 1 end
if ARGV[7] ~= '' then
  redis.call('HINCRBY', KEYS[4], 'undeliverable', 1)
  redis.call('HSET', KEYS[4], 'undeliverable_reason', ARGV[7])
  if ARGV[5] == '1' and tonumber(ARGV[6]) < tonumber(seen[3] or math.huge) then
    redis.call('HSET', KEYS[4], 'undeliverable_from', ARGV[6])
  end
elseif ARGV[5] == '1' and tonumber(ARGV[6]) > tonumber(seen[2] or 0) then
  redis.call('HSET', KEYS[4], 'delivered_revision', ARGV[6])
end
return 1

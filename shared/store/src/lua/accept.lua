-- Records a submission, or says what is recorded under its identifier already.
-- KEYS  1-5 as in change.lua   6 the ticket's key   7 the set of the first state (may be absent)
-- ARGV  1 member of sets   2 digest   3 event   4 first state   5 '1' if redelivered
--       6 age in ms after which a duplicate is dispatched again   7 the word of a queued job
--       8 timer ('' none, absolute ms)   9 deadline ('' none)   10 outbox bound   11 epoch
--       12 nonce of this delivery   13… field, value, …
-- Returns  accepted at | redispatch number | duplicate | conflict digest | voided | forgotten
-- Atomic because record, ticket, timeline and event are one fact.
-- Bounded by the number of fields.
local seen = redis.call('HMGET', KEYS[1], 'record', 'digest', 'state', 'attempt', 'dispatch',
  'dispatched_at', 'epoch', 'accepted_at', 'fence')
local record = seen[1]
if record == 'refused' then
  redis.call('DEL', KEYS[1])
  record = false
end
if record == 'voided' then return { 'voided' } end
if record == 'retired' then return { 'forgotten' } end
local at = now_ms()
if record then
  if seen[2] ~= ARGV[2] then return { 'conflict', seen[2] } end
  -- This very call again: its first answer was lost on the way.
  if seen[9] == '0-' .. ARGV[12] and seen[3] == ARGV[4] then return { 'accepted', seen[8] } end
  local waits = at - tonumber(seen[6] or seen[8])
  if seen[3] == ARGV[7] and seen[4] == '0'
    and (ARGV[5] == '1' or waits > tonumber(ARGV[6]) or seen[7] ~= ARGV[11]) then
    local dispatch = redis.call('HINCRBY', KEYS[1], 'dispatch', 1)
    redis.call('HSET', KEYS[1], 'dispatched_at', at, 'epoch', ARGV[11])
    return { 'redispatch', dispatch }
  end
  return { 'duplicate' }
end
redis.call('HSET', KEYS[1], 'record', 'job', 'state', ARGV[4], 'revision', 1, 'attempt', 0,
  'epoch', ARGV[11], 'digest', ARGV[2], 'accepted_at', at, 'changed_at', at,
  'fence', '0-' .. ARGV[12], unpack(ARGV, 13))
redis.call('SET', KEYS[6], ARGV[1])
if KEYS[7] then redis.call('ZADD', KEYS[7], at, ARGV[1]) end
local due, deadline = tonumber(ARGV[8]), tonumber(ARGV[9])
if due or deadline then
  if deadline and (not due or deadline < due) then due = deadline end
  redis.call('ZADD', KEYS[5], due, ARGV[1])
end
remember(1, at, ARGV[3], ARGV[4], 0, '', false)
notify(ARGV[4], ARGV[4], '0', 1, at, 0, tonumber(ARGV[10]))
return { 'accepted', at }

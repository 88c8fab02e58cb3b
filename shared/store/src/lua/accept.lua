-- Records a submission, or says what is recorded under its identifier already.
-- KEYS  1-5 as in change.lua   6 the ticket's key   7 the client's jobs   8 unfinished jobs, by
--       client   9… the set of the first state, if it has one, then the sets of the tags
-- ARGV  1 member of sets   2 digest   3 event   4 first state   5 '1' if redelivered
--       6 age in ms after which a duplicate is dispatched again ('' never)
--       7 the word of a queued job   8 of a running one
--       9 timer ('' none, absolute ms)   10 deadline ('' none)   11 outbox bound   12 epoch
--       13 nonce of this delivery   14 '1' if the first state has a set
--       15 unfinished jobs that the client may have (0 any number)   16 '1' if it is older than the
--       horizon   17 client   18 job id   19 '1' if the first state is to be pushed
--       20… field, value, …
-- Returns  accepted at | redispatch number | duplicate | conflict digest | voided | forgotten
--          | quota | too_old
-- Atomic because record, ticket, lists, timeline and event are one fact.
-- Bounded by the number of fields and tags.
local record = redis.call('HGET', KEYS[1], 'record')
if record == 'voided' then return 'voided' end
local at = now_ms()
if record == 'retired' or record == 'job' then
  local seen = redis.call('HMGET', KEYS[1], 'digest', 'state', 'attempt', 'dispatch',
    'dispatched_at', 'epoch', 'accepted_at', 'fence', 'detached', 'lease_until')
  if seen[1] ~= ARGV[2] then return 'conflict ' .. (seen[1] or '') end
  if record == 'retired' then return 'forgotten' end
  -- This very call again: its first answer was lost on the way.
  if seen[8] == '0-' .. ARGV[13] and seen[2] == ARGV[4] then return 'accepted ' .. seen[7] end
  local waits = at - tonumber(seen[5] or seen[7])
  local is_older = seen[6] ~= ARGV[12]
  if ARGV[6] == '' then return 'duplicate' end
  -- It may be that no message is out, or that one is: it is sent again under the number that it
  -- has. Another number would make a message that is out worthless, and whoever took it might die
  -- before sending its own. The epoch stays for the same reason: it says that this was not heard of
  -- since, until it is claimed.
  if seen[2] == ARGV[7] and (is_older
    or (seen[3] == '0' and (ARGV[5] == '1' or waits > tonumber(ARGV[6])))) then
    redis.call('HSET', KEYS[1], 'dispatched_at', at)
    return 'redispatch ' .. seen[4]
  end
  -- The store was rolled back since it started, and nobody runs it: its end was lost, and its
  -- message with it. The claim tells by the epoch that it may start it.
  if seen[2] == ARGV[8] and is_older and not seen[9] and tonumber(seen[10] or 0) <= at then
    return 'redispatch ' .. seen[4]
  end
  return 'duplicate'
end
-- Its tombstone may be gone: it must not run a second time.
if ARGV[16] == '1' then return 'too_old' end
local most = number(ARGV[15])
if count(KEYS[8], ARGV[17], 1) > most and most > 0 then
  count(KEYS[8], ARGV[17], -1)
  return 'quota'
end
if record then redis.call('DEL', KEYS[1]) end
-- What each change looks for comes first: Redis searches a small hash from its front.
redis.call('HSET', KEYS[1], 'record', 'job', 'state', ARGV[4], 'revision', '1',
  'fence', '0-' .. ARGV[13], 'attempt', '0', 'epoch', ARGV[12], 'changed_at', text(at),
  'client', ARGV[17], 'job_id', ARGV[18], 'digest', ARGV[2], 'accepted_at', text(at),
  unpack(ARGV, 20))
strings[#strings + 1] = KEYS[6]
strings[#strings + 1] = ARGV[1]
score(KEYS[7], ARGV[18], at)
local first_tag = 9
if ARGV[14] == '1' then
  score(KEYS[9], ARGV[1], at)
  first_tag = 10
end
for n = first_tag, #KEYS do score(KEYS[n], ARGV[18], at) end
local due, deadline = tonumber(ARGV[9]), ARGV[10] ~= '' and ARGV[10]
if due or deadline then set_timer(ARGV[1], due, deadline, '0') end
remember(1, at, ARGV[3], ARGV[4], 0, '', false)
if ARGV[19] == '1' then
  notify(ARGV[4], false, ARGV[4], ARGV[4], '0', 1, at, 0, number(ARGV[11]))
end
return 'accepted ' .. text(at)

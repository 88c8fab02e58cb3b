-- Takes entries of one client out of the outbox, and writes their end into their jobs' ledgers.
-- KEYS  1 the outbox   2 events waiting, by client   3 entries put off   4… the job of each entry
-- ARGV  1 group   2 client   then for each entry: id, its member of the put-off set ('' none),
--       '1' if it is an event, revision, why it could not be delivered ('' it was), the queue that
--       it was for
-- Returns  how many were still there
-- Not a change: the revision stays.
-- Bounded by the number of entries, of which the caller gives few.

-- The ledger is of the queue that events go to now. An earlier one was given up by the client.
local function note(job, is_event, revision, reason, to)
  local seen = redis.pcall('HMGET', job, 'record', 'notify_to', 'reply_to', 'delivered_revision')
  -- Not of an identifier that was refused, voided or forgotten altogether, nor a key of another
  -- type, which somebody else has written; a tombstone has one.
  if seen[1] ~= 'job' and seen[1] ~= 'retired' then return end
  if is_event and to ~= (seen[2] or seen[3] or '') then return end
  if reason ~= '' then
    redis.call('HINCRBY', job, 'undeliverable', 1)
    redis.call('HSET', job, 'undeliverable_reason', reason)
    local from = is_event and redis.call('HGET', job, 'undeliverable_from')
    if is_event and tonumber(revision) < tonumber(from or math.huge) then
      redis.call('HSET', job, 'undeliverable_from', revision)
    end
  elseif is_event and tonumber(revision) > tonumber(seen[4] or 0) then
    redis.call('HSET', job, 'delivered_revision', revision)
  end
end

-- From the last one on: whenever the first entry of a stream goes, Redis looks for the next one.
local is_there = {}
for n = #KEYS, 4, -1 do
  is_there[n] = redis.call('XDEL', KEYS[1], ARGV[3 + (n - 4) * 6]) == 1
end
local there = {}
for n = 4, #KEYS do
  if is_there[n] then
    local first = 3 + (n - 4) * 6
    local member = ARGV[first + 1]
    there[#there + 1] = ARGV[first]
    if member ~= '' then redis.call('ZREM', KEYS[3], member) end
    note(KEYS[n], ARGV[first + 2] == '1', ARGV[first + 3], ARGV[first + 4], ARGV[first + 5])
  end
end
if #there == 0 then return 0 end
redis.call('XACK', KEYS[1], ARGV[1], unpack(there))
if redis.call('HINCRBY', KEYS[2], ARGV[2], -#there) <= 0 then
  redis.call('HDEL', KEYS[2], ARGV[2])
end
return #there

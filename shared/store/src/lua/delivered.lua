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
  local seen = redis.call('HMGET', job, 'record', 'notify_to', 'reply_to', 'delivered_revision')
  -- Not of an identifier that was refused, voided or forgotten altogether; a tombstone has one.
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

-- What was delivered is taken out in one go, because Redis looks each time for the first entry that
-- is left. It does not say then which were gone before; but what the broker has confirmed is noted
-- in any case, and as often as one likes. What was given up is counted, so that is noted only by
-- whoever takes it out.
local all, delivered, there = {}, {}, 0
for n = 4, #KEYS do
  local first = 3 + (n - 4) * 6
  local id, member, is_event, revision, reason, to = unpack(ARGV, first, first + 5)
  all[#all + 1] = id
  if member ~= '' then redis.call('ZREM', KEYS[3], member) end
  local is_noted = reason == ''
  if is_noted then
    delivered[#delivered + 1] = id
  elseif redis.call('XDEL', KEYS[1], id) == 1 then
    there, is_noted = there + 1, true
  end
  if is_noted then note(KEYS[n], is_event == '1', revision, reason, to) end
end
if #delivered > 0 then there = there + redis.call('XDEL', KEYS[1], unpack(delivered)) end
redis.call('XACK', KEYS[1], ARGV[1], unpack(all))
if there > 0 and redis.call('HINCRBY', KEYS[2], ARGV[2], -there) <= 0 then
  redis.call('HDEL', KEYS[2], ARGV[2])
end
return there

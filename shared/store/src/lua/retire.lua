-- Replaces what is recorded of a finished job by its tombstone, which keeps its identifiers, digest
-- and outcome, and the ledger of its events.
-- KEYS  1 the job   2 its timeline   3 its ticket   4 the client's jobs
--       5 when records are retired
--       6… the sets of final states, and the sets of its tags
-- ARGV  1 member of sets   2 job id   3 final states, joined by commas   4 ms that the tombstone
--       lives   5 '1' at once, '' when its time has come   6 how many final states
--       have a set
-- Returns  retired | early at | unfinished state | the kind of record that stands there | none
-- Atomic because there must be no instant in which nothing is known of the identifier.
-- Bounded by the number of tags.
local seen = redis.call('HMGET', KEYS[1], 'record', 'state', 'expires_at', 'client', 'ticket',
  'type',
  'digest', 'accepted_at', 'finished_at', 'epoch', 'revision', 'notify', 'notify_to', 'reply_to',
  'delivered_revision', 'undeliverable', 'undeliverable_from', 'undeliverable_reason')
if seen[1] ~= 'job' then
  redis.call('ZREM', KEYS[5], ARGV[1])
  return { seen[1] or 'none' }
end
if not string.find(',' .. ARGV[3] .. ',', ',' .. seen[2] .. ',', 1, true) then
  redis.call('ZREM', KEYS[5], ARGV[1])
  return { 'unfinished', seen[2] }
end
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
if ARGV[5] ~= '1' and tonumber(seen[3] or math.huge) > at then return { 'early', seen[3] or '' } end
local ends = at + tonumber(ARGV[4])
redis.call('DEL', KEYS[1], KEYS[2])
local fields = { 'record', 'retired', 'job_id', ARGV[2], 'outcome', seen[2], 'retired_at', at,
  'expires_at', ends }
local kept = { client = seen[4], ticket = seen[5], type = seen[6], digest = seen[7],
  accepted_at = seen[8], finished_at = seen[9], epoch = seen[10], revision = seen[11] }
-- Events that are still to be delivered have their ledger here from now on.
if (seen[12] or '') ~= '' then
  kept.notify, kept.notify_to, kept.reply_to = seen[12], seen[13], seen[14]
  kept.delivered_revision, kept.undeliverable = seen[15], seen[16]
  kept.undeliverable_from, kept.undeliverable_reason = seen[17], seen[18]
end
for name, value in pairs(kept) do
  if value then
    fields[#fields + 1] = name
    fields[#fields + 1] = value
  end
end
redis.call('HSET', KEYS[1], unpack(fields))
redis.call('PEXPIREAT', KEYS[1], ends)
redis.call('PEXPIREAT', KEYS[3], ends)
redis.call('ZREM', KEYS[4], ARGV[2])
redis.call('ZREM', KEYS[5], ARGV[1])
local first_tag = 6 + tonumber(ARGV[6])
for n = 6, first_tag - 1 do redis.call('ZREM', KEYS[n], ARGV[1]) end
for n = first_tag, #KEYS do redis.call('ZREM', KEYS[n], ARGV[2]) end
return { 'retired' }

-- A stage or progress of a run: the state stays, the revision grows, unless nothing is new.
-- KEYS  1-5 as in change.lua
-- ARGV  1 right, the value of the field that ARGV 9 names   2 event
--       3 word of the subscription   4 detail   5 outbox bound
--       6 '1' if it joins an equal event before it   7 epoch
--       8 the states in which it may be said, joined by commas
--       9 the field that holds the right: the fence, or the hash of the report token
--       10… field, value, … ('' deletes the field)
-- Returns  applied cancel_requested | same cancel_requested | stale state
--          | not_now state | none
-- Atomic because fence, fields, timeline and event are one fact.
-- Bounded by the number of fields.
local seen = redis.call('HMGET', KEYS[1], 'record', 'state', 'revision', ARGV[9], 'attempt',
  'cancel_requested', 'notify', 'waits')
if seen[1] ~= 'job' then return 'none' end
if seen[4] ~= ARGV[1] then return 'stale ' .. seen[2] end
if not string.find(',' .. ARGV[8] .. ',', ',' .. seen[2] .. ',', 1, true) then
  return 'not_now ' .. seen[2]
end
local changed = false
for n = 10, #ARGV, 2 do
  if (redis.call('HGET', KEYS[1], ARGV[n]) or '') ~= ARGV[n + 1] then changed = true end
end
if not changed then return 'same ' .. (seen[6] or '') end
local at = now_ms()
local revision = tonumber(seen[3]) + 1
redis.call('HSET', KEYS[1], 'revision', revision, 'changed_at', at, 'epoch', ARGV[7])
for n = 10, #ARGV, 2 do
  if ARGV[n + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[n])
  else
    redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1])
  end
end
remember(revision, at, ARGV[2], seen[2], seen[5], ARGV[4], ARGV[6] == '1')
notify(seen[7], seen[8], ARGV[3], seen[2], '0', revision, at, seen[5], tonumber(ARGV[5]))
return 'applied ' .. (seen[6] or '')

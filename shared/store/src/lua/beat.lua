-- Renews the lease of a run; given a payload, detaches the run from its work message.
-- KEYS  1-5 as in change.lua
-- ARGV  1 member of sets   2 fence   3 lease in ms   4 payload ('' none)   5 '1' if to be detached
-- Returns  held cancel_requested | lost
-- Not a change: the revision stays.
-- Bounded by a constant.
local seen = redis.call('HMGET', KEYS[1], 'fence', 'owner', 'detached', 'deadline',
  'cancel_requested')
if seen[1] ~= ARGV[2] or not seen[2] then return 'lost' end
local lease = now_ms() + tonumber(ARGV[3])
if ARGV[5] == '1' then
  redis.call('HSET', KEYS[1], 'lease_until', text(lease), 'detached', 1, 'payload', ARGV[4])
  set_timer(ARGV[1], lease, seen[4], '0')
else
  redis.call('HSET', KEYS[1], 'lease_until', text(lease))
  if seen[3] or seen[5] then set_timer(ARGV[1], lease, seen[4], '0') end
end
return 'held ' .. (seen[5] or '')

-- The first thing on every new connection: layout, slots, secret; and whether the store may have
-- lost a stretch of time since it was last seen.
-- KEYS  1 the deployment   2 its secret
-- ARGV  1 run id of the server   2 '1' if every acknowledged write survives   3 slots
--       4 layout version   5 a secret, if there is none yet   6 the epoch that was known (0 none)
--       7 of which run that was
-- Returns  layout slots epoch secret lost_from lost_to
-- Atomic because several processes open a store at once.
-- Bounded by a constant.
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('HSETNX', KEYS[1], 'layout', ARGV[4]) == 1 then
  redis.call('HSET', KEYS[1], 'slots', ARGV[3], 'epoch', ARGV[6] + 1, 'run_id', ARGV[1],
    'alive_at', at, 'created_at', at)
  -- It was another store a moment ago: everything up to now is lost.
  if ARGV[6] ~= '0' then redis.call('HSET', KEYS[1], 'lost_from', 0, 'lost_to', at) end
end
redis.call('SETNX', KEYS[2], ARGV[5])
local seen = redis.call('HMGET', KEYS[1], 'layout', 'slots', 'run_id', 'alive_at')
if seen[3] ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'run_id', ARGV[1])
  if ARGV[2] ~= '1' then
    redis.call('HINCRBY', KEYS[1], 'epoch', 1)
    redis.call('HSET', KEYS[1], 'lost_from', seen[4], 'lost_to', at)
  end
end
-- An epoch that somebody knew of another run is lost itself, or was given a second time.
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch'))
if ARGV[2] ~= '1' and ARGV[7] ~= ARGV[1] and epoch <= tonumber(ARGV[6]) then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[6] + 1)
  -- Whoever came first had never heard of it, and found nothing that it missed.
  redis.call('HSETNX', KEYS[1], 'lost_from', 0)
  redis.call('HSETNX', KEYS[1], 'lost_to', at)
end
local lost = redis.call('HMGET', KEYS[1], 'lost_from', 'lost_to')
return { seen[1], seen[2], redis.call('HGET', KEYS[1], 'epoch'), redis.call('GET', KEYS[2]),
  lost[1] or '', lost[2] or '' }

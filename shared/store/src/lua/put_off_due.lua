-- The entries whose time has come again; each is held for a while against other notifiers.
-- KEYS  1 the outbox   2 entries put off
-- ARGV  1 how many at most   2 ms that they are held
-- Returns  member, fields, member, fields, …
-- Bounded by ARGV 1.
local time = redis.call('TIME')
local at = time[1] * 1000 + math.floor(time[2] / 1000)
local members = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', at, 'LIMIT', 0, tonumber(ARGV[1]))
local found = {}
for _, member in ipairs(members) do
  local id = string.match(member, '^[^/]+')
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if entry then
    redis.call('ZADD', KEYS[2], at + tonumber(ARGV[2]), member)
    found[#found + 1] = member
    found[#found + 1] = entry[2]
  else
    redis.call('ZREM', KEYS[2], member)
  end
end
return found

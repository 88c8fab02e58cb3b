-- Appended to every script that change.lua is prepended to: calls it for one job after another. One
-- that fails (a key of another type is in its way) keeps no other from being written whole; then
-- the call fails, and is made again.
-- KEYS  those of the first job, then of each other one those that differ
-- ARGV  1 how many jobs   2 how many KEYS each   3 how many ARGV each   how many KEYS differ, and
--       which   how many ARGV differ, and which   the ARGV of the first job, then of each other one
--       those that differ
local next_arg = 4
local function places()
  local first, count = next_arg + 1, tonumber(every_arg[next_arg])
  next_arg = first + count
  local found = {}
  for n = 1, count do found[n] = tonumber(every_arg[first + n - 1]) end
  return found
end

local own_keys, own_args = places(), places()
local next_key = tonumber(every_arg[2]) + 1
KEYS = { unpack(every_key, 1, next_key - 1) }
ARGV = { unpack(every_arg, next_arg, next_arg + tonumber(every_arg[3]) - 1) }
next_arg = next_arg + #ARGV

local replies, failure = {}, nil
for n = 1, tonumber(every_arg[1]) do
  if n > 1 then
    for m = 1, #own_keys do KEYS[own_keys[m]] = every_key[next_key + m - 1] end
    for m = 1, #own_args do ARGV[own_args[m]] = every_arg[next_arg + m - 1] end
    next_key, next_arg = next_key + #own_keys, next_arg + #own_args
  end
  local is_done, reply = pcall(change)
  if is_done then
    replies[n] = reply
  else
    failure = failure or reply
  end
end
write_what_is_shared()
if failure then
  return redis.error_reply(type(failure) == 'table' and failure.err or tostring(failure))
end
return replies

-- Appended to every script that change.lua is prepended to: calls it for one job after another. One
-- that fails (a key of another type is in its way) keeps no other from being written whole; then
-- the call fails, and is made again.
-- ARGV  1 how many jobs   then for each job: how many KEYS, how many ARGV, its ARGV
local replies, key_at, arg_at, failure = {}, 0, 1, nil
for n = 1, tonumber(every_arg[1]) do
  local keys, args = tonumber(every_arg[arg_at + 1]), tonumber(every_arg[arg_at + 2])
  KEYS = { unpack(every_key, key_at + 1, key_at + keys) }
  ARGV = { unpack(every_arg, arg_at + 3, arg_at + 2 + args) }
  key_at, arg_at = key_at + keys, arg_at + 2 + args
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

-- Appended to every script that change.lua is prepended to: calls it for one job after another.
-- ARGV  1 how many jobs   then for each job: how many KEYS, how many ARGV, its ARGV
local replies, key_at, arg_at = {}, 0, 1
for n = 1, tonumber(every_arg[1]) do
  local keys, args = tonumber(every_arg[arg_at + 1]), tonumber(every_arg[arg_at + 2])
  KEYS = { unpack(every_key, key_at + 1, key_at + keys) }
  ARGV = { unpack(every_arg, arg_at + 3, arg_at + 2 + args) }
  key_at, arg_at = key_at + keys, arg_at + 2 + args
  replies[n] = change()
end
write_what_is_shared()
return replies

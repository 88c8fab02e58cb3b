-- Has an answer sent when a job is done, or has a newer revision, or at the latest after a while.
-- KEYS  1 the job   2 the jobs that somebody waits for   3 events waiting, by client
-- ARGV  1 member of sets   2 final states, joined by commas   3 ms to wait at most
--       4 how many may wait for one job   5 the revision that is waited past ('' a final state)
--       6 its epoch ('' the present one)   7 where the answer goes   8 correlation id ('' none)
--       9 '1' if the timeline is wanted   10 client   11 outbox bound
-- Returns  waiting | now | full | busy
-- Atomic because a change between looking and waiting would be waited for in vain.
-- Bounded by ARGV 4.
local seen = redis.call('HMGET', KEYS[1], 'record', 'state', 'epoch', 'revision', 'waits')
if seen[1] ~= 'job' then return 'now' end
if string.find(',' .. ARGV[2] .. ',', ',' .. seen[2] .. ',', 1, true) then return 'now' end
local wait = { to = ARGV[7] }
if ARGV[5] ~= '' then
  local epoch, revision = tonumber(seen[3]), tonumber(seen[4])
  wait.past_revision, wait.past_epoch = tonumber(ARGV[5]), tonumber(ARGV[6]) or epoch
  if epoch > wait.past_epoch
    or (epoch == wait.past_epoch and revision > wait.past_revision) then
    return 'now'
  end
end
local waits = seen[5] and cjson.decode(seen[5]) or {}
wait.limit_ms = tonumber(ARGV[3])
if ARGV[8] ~= '' then wait.correlation_id = ARGV[8] end
if ARGV[9] == '1' then wait.history = true end
-- A request that was delivered twice waits once, if it can be told from another.
for _, known in ipairs(waits) do
  local same = wait.correlation_id ~= nil
  for _, field in ipairs({ 'to', 'correlation_id', 'past_revision', 'past_epoch', 'limit_ms',
    'history' }) do
    same = same and known[field] == wait[field]
  end
  if same then return 'waiting' end
end
if #waits >= tonumber(ARGV[4]) then return 'full' end
-- Its answer would have to wait in an outbox that is full already.
if tonumber(redis.call('HGET', KEYS[3], ARGV[10]) or 0) >= tonumber(ARGV[11]) then return 'busy' end
local time = redis.call('TIME')
wait.until_ms = time[1] * 1000 + math.floor(time[2] / 1000) + wait.limit_ms
waits[#waits + 1] = wait
redis.call('HSET', KEYS[1], 'waits', cjson.encode(waits))
redis.call('ZADD', KEYS[2], 'LT', wait.until_ms, ARGV[1])
return 'waiting'

-- Prepended to every script that changes a job: what a change does beside the fields it sets.
-- No state is named here: words come in by ARGV, from the one table in Rust.
--
-- The first five KEYS of every such script:
--   1 the job   2 its timeline   3 the outbox   4 events waiting, by client   5 the timers

local HISTORY_FIRST, HISTORY_MAX = 16, 64

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- One line of the timeline: "<revision> <ms> <event> <state> <attempt> <detail>".
-- Progress overwrites progress; past the limit the oldest line after the first few goes.
local function remember(revision, at, event, state, attempt, detail, joins)
  local line = table.concat({ revision, at, event, state, attempt, detail }, ' ')
  if joins then
    local last = redis.call('LINDEX', KEYS[2], -1)
    if last and string.match(last, '^%d+ %d+ (%S+)') == event then
      redis.call('LSET', KEYS[2], -1, line)
      return
    end
  end
  if redis.call('RPUSH', KEYS[2], line) > HISTORY_MAX then
    redis.call('LSET', KEYS[2], HISTORY_FIRST, '')
    redis.call('LREM', KEYS[2], 1, '')
  end
end

-- Adds an event to the outbox if the job's subscription holds the word. A client whose outbox is
-- full loses no final state: its other changes are joined into a gap that the next event states.
local function notify(word, state, terminal, revision, at, attempt, outbox_max)
  local job = redis.call('HMGET', KEYS[1], 'notify', 'notify_to', 'reply_to', 'client', 'gap_from')
  if not job[1] or not string.find(',' .. job[1] .. ',', ',' .. word .. ',', 1, true) then
    return
  end
  local client = job[4]
  if redis.call('HINCRBY', KEYS[4], client, 1) > outbox_max and terminal ~= '1' then
    redis.call('HINCRBY', KEYS[4], client, -1)
    redis.call('HSETNX', KEYS[1], 'gap_from', revision)
    return
  end
  local names = { 'job_id', 'ticket', 'type', 'queue', 'epoch', 'correlation_id', 'stage',
    'progress', 'progress_note' }
  if terminal == '1' then
    names[#names + 1] = 'result'
    names[#names + 1] = 'error'
  end
  local values = redis.call('HMGET', KEYS[1], unpack(names))
  local entry = { 'kind', 'event', 'to', job[2] or job[3] or '', 'client', client, 'event', word,
    'state', state, 'done', terminal, 'revision', revision, 'at', at, 'attempt', attempt }
  for n, name in ipairs(names) do
    if values[n] then
      entry[#entry + 1] = name
      entry[#entry + 1] = values[n]
    end
  end
  if job[5] then
    entry[#entry + 1] = 'gap_from'
    entry[#entry + 1] = job[5]
    redis.call('HDEL', KEYS[1], 'gap_from')
  end
  redis.call('XADD', KEYS[3], '*', unpack(entry))
end

-- The one timer of a job: the instant asked for or its deadline, whichever comes first.
local function set_timer(subject, due, deadline, terminal)
  if terminal == '1' then
    redis.call('ZREM', KEYS[5], subject)
    return
  end
  if deadline and (not due or tonumber(deadline) < due) then
    due = tonumber(deadline)
  end
  if due then
    redis.call('ZADD', KEYS[5], due, subject)
  else
    redis.call('ZREM', KEYS[5], subject)
  end
end

-- Moves a job between the sets that list jobs by state.
local function move(subject, at, from_set, to_set)
  if from_set == to_set then return end
  if from_set then redis.call('ZREM', from_set, subject) end
  if to_set then redis.call('ZADD', to_set, at, subject) end
end

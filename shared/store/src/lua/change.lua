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

-- Puts the answer that somebody waits for into the outbox; what it says is read when it is sent.
local function post_answer(wait, client, job_id)
  redis.call('HINCRBY', KEYS[4], client, 1)
  redis.call('XADD', KEYS[3], '*', 'kind', 'answer', 'to', wait.to, 'client', client,
    'job_id', job_id, 'correlation_id', wait.correlation_id or '',
    'history', wait.history and '1' or '')
end

-- Answers those who wait and whose time has come: `over` says whose.
local function answer_waits(text, client, job_id, over)
  local kept = {}
  for _, wait in ipairs(cjson.decode(text)) do
    if over(wait) then
      post_answer(wait, client, job_id)
    else
      kept[#kept + 1] = wait
    end
  end
  if #kept == 0 then
    redis.call('HDEL', KEYS[1], 'waits')
  else
    redis.call('HSET', KEYS[1], 'waits', cjson.encode(kept))
  end
  return kept
end

-- The fields of an event beside what the change itself gives.
local EVENT_FIELDS = { 'job_id', 'ticket', 'type', 'queue', 'epoch', 'correlation_id', 'batch' }

-- Adds an event to the outbox. A client whose outbox is full loses no final state: its other
-- changes are joined into a gap that the next event states. `own` is what only this event says.
local function post_event(to, client, word, state, terminal, revision, at, attempt, own, gap_from,
    outbox_max)
  if redis.call('HINCRBY', KEYS[4], client, 1) > outbox_max and terminal ~= '1' then
    redis.call('HINCRBY', KEYS[4], client, -1)
    redis.call('HSETNX', KEYS[1], 'gap_from', revision)
    return
  end
  local entry = { 'kind', 'event', 'to', to, 'client', client, 'event', word, 'state', state,
    'done', terminal, 'revision', revision, 'at', at, 'attempt', attempt }
  local values = redis.call('HMGET', KEYS[1], unpack(EVENT_FIELDS))
  for n, name in ipairs(EVENT_FIELDS) do
    if values[n] then
      entry[#entry + 1] = name
      entry[#entry + 1] = values[n]
    end
  end
  for name, value in pairs(own) do
    entry[#entry + 1] = name
    entry[#entry + 1] = value
  end
  if gap_from then
    entry[#entry + 1] = 'gap_from'
    entry[#entry + 1] = gap_from
    redis.call('HDEL', KEYS[1], 'gap_from')
  end
  redis.call('XADD', KEYS[3], '*', unpack(entry))
end

-- Tells whoever is to be told of a change: those who wait for it, and the job's subscription if it
-- holds the word.
local function notify(word, state, terminal, revision, at, attempt, outbox_max)
  local job = redis.call('HMGET', KEYS[1], 'notify', 'notify_to', 'reply_to', 'client', 'gap_from',
    'waits', 'job_id', 'epoch', 'stage', 'progress', 'progress_note', 'result', 'error')
  if job[6] then
    answer_waits(job[6], job[4], job[7], function(wait)
      if terminal == '1' then return true end
      if not wait.past_revision then return false end
      local epoch = tonumber(job[8])
      return epoch > wait.past_epoch
        or (epoch == wait.past_epoch and revision > wait.past_revision)
    end)
  end
  if not job[1] or not string.find(',' .. job[1] .. ',', ',' .. word .. ',', 1, true) then
    return
  end
  local own = { stage = job[9] or nil, progress = job[10] or nil, progress_note = job[11] or nil }
  if terminal == '1' then
    own.result, own.error = job[12] or nil, job[13] or nil
  end
  post_event(job[2] or job[3] or '', job[4], word, state, terminal, revision, at, attempt, own,
    job[5], outbox_max)
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

-- Prepended to every script that changes jobs: what a change does beside the fields it sets. The
-- script itself is the body of a function (each.lua) that is called for one job after another, all
-- of one slot, with the KEYS and ARGV of that job.
-- No state is named here: words come in by ARGV, from the one table in Rust.
--
-- What belongs to one job is written at once: the next one may be the same job. What all of them
-- share (sets, counters, lists) is gathered and written once, at the end.
--
-- The first five KEYS of every job:
--   1 the job   2 its timeline   3 the outbox   4 events waiting, by client   5 the timers

local every_key, every_arg = KEYS, ARGV
local KEYS, ARGV

local HISTORY_FIRST, HISTORY_MAX, RECENT_MAX = 16, 64, 1000

local now
local function now_ms()
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return now
end

-- A number as Redis is to have it. Redis 7.0 would write each one anew, as a floating-point number
-- with 17 digits; later ones write integers as such.
local texts = {}
local function text(number)
  local known = texts[number]
  if not known then
    known = string.format('%.0f', number)
    texts[number] = known
  end
  return known
end

-- A text as a number. Lua reads each one twice; most are small, and the same for many jobs.
local numbers = {}
local function number(digits)
  local known = numbers[digits]
  if not known then
    known = tonumber(digits)
    numbers[digits] = known
  end
  return known
end

-- What was gathered for a key.
local function of(gathered, key)
  local found = gathered[key]
  if not found then
    found = {}
    gathered[key] = found
  end
  return found
end

-- Sorted sets: the score of a member, or false if it is to go.
local sets = {}
local function score(key, member, at)
  of(sets, key)[member] = at
end

-- Counters in hashes; one that comes to nothing goes. Returns what it is then.
local counters = {}
local function count(key, field, by)
  local fields = of(counters, key)
  local counter = fields[field]
  if not counter then
    counter = { tonumber(redis.call('HGET', key, field) or 0), 0 }
    fields[field] = counter
  end
  counter[2] = counter[2] + by
  return counter[1] + counter[2]
end

-- Lists of the last finished jobs: members in their order.
local recent = {}
local function finished(key, member)
  local members = of(recent, key)
  members[#members + 1] = member
end

-- For how long what has ended so is kept, as its type or its outcome says; read once.
local kept = {}
local function kept_for(key, job_type, outcome)
  local known = of(of(kept, key), job_type)
  if known[outcome] == nil then
    local found = redis.call('HMGET', key, job_type .. '/' .. outcome, outcome)
    known[outcome] = found[1] or found[2]
  end
  return known[outcome]
end

-- Names and values of plain keys.
local strings = {}

local function write_what_is_shared()
  for key, set in pairs(sets) do
    local entering, leaving = {}, {}
    for member, at in pairs(set) do
      if at then
        entering[#entering + 1] = text(at)
        entering[#entering + 1] = member
      else
        leaving[#leaving + 1] = member
      end
    end
    if #leaving > 0 then redis.call('ZREM', key, unpack(leaving)) end
    if #entering > 0 then redis.call('ZADD', key, unpack(entering)) end
  end
  for key, fields in pairs(counters) do
    for field, counter in pairs(fields) do
      if counter[1] + counter[2] <= 0 then
        redis.call('HDEL', key, field)
      elseif counter[2] ~= 0 then
        redis.call('HINCRBY', key, field, counter[2])
      end
    end
  end
  for key, members in pairs(recent) do
    if redis.call('LPUSH', key, unpack(members)) > RECENT_MAX then
      redis.call('LTRIM', key, 0, RECENT_MAX - 1)
    end
  end
  if #strings > 0 then redis.call('MSET', unpack(strings)) end
end

-- One line of the timeline: "<revision> <ms> <event> <state> <attempt> <detail>".
-- Progress overwrites progress; past the limit the oldest line after the first few goes.
local function remember(revision, at, event, state, attempt, detail, joins)
  local line = text(revision) .. ' ' .. text(at) .. ' ' .. event .. ' ' .. state .. ' '
    .. text(attempt) .. ' ' .. detail
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
  count(KEYS[4], client, 1)
  redis.call('XADD', KEYS[3], '*', 'kind', 'answer', 'to', wait.to, 'client', client,
    'job_id', job_id, 'correlation_id', wait.correlation_id or '',
    'history', wait.history and '1' or '')
end

-- Answers those who wait and whose time has come: `over` says whose.
local function answer_waits(waits, client, job_id, over)
  local left = {}
  for _, wait in ipairs(cjson.decode(waits)) do
    if over(wait) then
      post_answer(wait, client, job_id)
    else
      left[#left + 1] = wait
    end
  end
  if #left == 0 then
    redis.call('HDEL', KEYS[1], 'waits')
  else
    redis.call('HSET', KEYS[1], 'waits', cjson.encode(left))
  end
  return left
end

-- What an event says beside the change itself, in this order: `stage` to `error` are of the record
-- as it is now, and the rest says where it goes.
local EVENT_FIELDS = { 'job_id', 'ticket', 'type', 'queue', 'epoch', 'correlation_id', 'batch',
  'stage', 'progress', 'progress_note', 'result', 'error', 'gap_from', 'client', 'notify_to',
  'reply_to' }
local STAGE, PROGRESS, PROGRESS_NOTE, RESULT, ERROR, GAP_FROM, CLIENT, NOTIFY_TO, REPLY_TO =
  8, 9, 10, 11, 12, 13, 14, 15, 16

-- Adds an event to the outbox. A client whose outbox is full loses no final state: its other
-- changes are joined into a gap that the next event states. `values` are of EVENT_FIELDS.
local function post_event(to, word, state, terminal, revision, at, attempt, values, outbox_max)
  local client = values[CLIENT]
  if count(KEYS[4], client, 1) > outbox_max and terminal ~= '1' then
    count(KEYS[4], client, -1)
    redis.call('HSETNX', KEYS[1], 'gap_from', revision)
    return
  end
  local entry = { 'kind', 'event', 'to', to, 'client', client, 'event', word, 'state', state,
    'done', terminal, 'revision', text(revision), 'at', text(at), 'attempt', text(attempt) }
  local size = #entry
  for n = 1, GAP_FROM do
    if values[n] then
      entry[size + 1], entry[size + 2] = EVENT_FIELDS[n], values[n]
      size = size + 2
    end
  end
  if values[GAP_FROM] then redis.call('HDEL', KEYS[1], 'gap_from') end
  redis.call('XADD', KEYS[3], '*', unpack(entry))
end

-- Tells whoever is to be told of a change: those who wait for it, and the job's subscription if it
-- holds the word. `words` and `waits` are the record's.
local function notify(words, waits, word, state, terminal, revision, at, attempt, outbox_max)
  if waits then
    local job = redis.call('HMGET', KEYS[1], 'client', 'job_id', 'epoch')
    answer_waits(waits, job[1], job[2], function(wait)
      if terminal == '1' then return true end
      if not wait.past_revision then return false end
      local epoch = tonumber(job[3])
      return epoch > wait.past_epoch
        or (epoch == wait.past_epoch and revision > wait.past_revision)
    end)
  end
  if not words or not string.find(',' .. words .. ',', ',' .. word .. ',', 1, true) then
    return
  end
  local values = redis.call('HMGET', KEYS[1], unpack(EVENT_FIELDS))
  if terminal ~= '1' then values[RESULT], values[ERROR] = false, false end
  local to = values[NOTIFY_TO] or values[REPLY_TO] or ''
  post_event(to, word, state, terminal, revision, at, attempt, values, outbox_max)
end

-- The one timer of a job: the instant asked for or its deadline, whichever comes first.
local function set_timer(subject, due, deadline, terminal)
  if deadline and (not due or tonumber(deadline) < due) then
    due = tonumber(deadline)
  end
  score(KEYS[5], subject, terminal ~= '1' and due or false)
end

-- Moves a job between the sets that list jobs by state.
local function move(subject, at, from_set, to_set)
  if from_set == to_set then return end
  if from_set then score(from_set, subject, false) end
  if to_set then score(to_set, subject, at) end
end

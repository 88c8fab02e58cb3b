-- Applies one event to a job: a compare-and-set over the steps that the table in Rust allows.
-- KEYS  1-5 as in change.lua   6 when records are retired   7 how long they are kept
--       8 unfinished jobs, by client   9 the finished jobs of the type
--       10… the sets that the steps name
-- ARGV  1 member of sets   2 event   3 word of the subscription ('' the new state)
--       4 right ('' any), the value of the field that ARGV 12 names
--       5 dispatch number ('' any)   6 timer ('' none, '+ms' from now, ms,
--       'detached': now if the run no longer depends on a message, 'lease': when the lease ends)
--       7 detail for the timeline   8 outbox bound   9 '1' if a new dispatch number is due
--       10 how many of the fields to delete a first run may have: they come first
--       11 'cancel' if it gives way to a cancellation that was asked for, 'lease' if to a lease
--       that runs, 'watched' if to that or a run that needs its message, '' otherwise
--       12 the field that holds the right to change: the fence, or the hash of the report token
--       13 number of steps, then for each: from, to, '1' if final, index of the set it leaves and
--       of the set it enters (0 none); then the number of texts that follow as field, value, …;
--       then the fields to delete
-- Returns  applied state revision dispatch | repeated … | illegal state | stale state | cancel
--          | none
-- Atomic because state, sets, timers, timeline and event are one fact.
-- Bounded by the number of fields.
local seen = redis.call('HMGET', KEYS[1], 'record', 'state', 'revision', ARGV[12], 'dispatch',
  'attempt', 'deadline', 'detached', 'cancel_requested', 'lease_until', 'type', 'client',
  'keep_ms', 'notify', 'waits')
if seen[1] ~= 'job' then return 'none' end
local state = seen[2]
if ARGV[4] ~= '' and seen[4] ~= ARGV[4] then return 'stale ' .. state end
if ARGV[5] ~= '' and seen[5] ~= ARGV[5] then return 'stale ' .. state end
local at = now_ms()
local is_watched = seen[8] or seen[9]
if ARGV[11] == 'lease' or ARGV[11] == 'watched' then
  if tonumber(seen[10] or 0) > at then return 'stale ' .. state end
  if ARGV[11] == 'watched' and not is_watched then return 'stale ' .. state end
end

local to, terminal, from_set, to_set, repeated
local next_arg = 14
for _ = 1, number(ARGV[13]) do
  if ARGV[next_arg] == state and not to then
    to, terminal = ARGV[next_arg + 1], ARGV[next_arg + 2]
    local leaves, enters = number(ARGV[next_arg + 3]), number(ARGV[next_arg + 4])
    from_set, to_set = leaves > 0 and KEYS[9 + leaves], enters > 0 and KEYS[9 + enters]
  end
  repeated = repeated or ARGV[next_arg + 1] == state
  next_arg = next_arg + 5
end
if not to then
  -- The right is of one attempt, and an attempt ends once: it is the same event again.
  if repeated and ARGV[4] ~= '' then
    return 'repeated ' .. state .. ' ' .. seen[3] .. ' ' .. seen[5]
  end
  return 'illegal ' .. state
end

if ARGV[11] == 'cancel' and seen[9] then return 'cancel' end

local revision = number(seen[3]) + 1
local fields = { 'state', to, 'revision', text(revision), 'changed_at', text(at) }
local function put(field, value)
  fields[#fields + 1], fields[#fields + 2] = field, value
end
local given = number(ARGV[next_arg])
for n = next_arg + 1, next_arg + given do fields[#fields + 1] = ARGV[n] end
local dispatch = seen[5]
if ARGV[9] == '1' then
  dispatch = text(number(dispatch) + 1)
  put('dispatch', dispatch)
  put('dispatched_at', text(at))
end
if terminal == '1' then
  put('finished_at', text(at))
  -- As long as the job says, or its type, or its outcome.
  local keep = seen[13] or kept_for(KEYS[7], seen[11], to)
  if keep then
    put('expires_at', text(at + number(keep)))
    score(KEYS[6], ARGV[1], at + number(keep))
  end
  count(KEYS[8], seen[12], -1)
  finished(KEYS[9], ARGV[1])
end
local due = nil
if string.sub(ARGV[6], 1, 1) == '+' then
  due = at + tonumber(string.sub(ARGV[6], 2))
elseif ARGV[6] == 'detached' then
  if seen[8] then due = at end
elseif ARGV[6] ~= '' and ARGV[6] ~= 'lease' then
  due = tonumber(ARGV[6])
end
if not due and to == state and (is_watched or ARGV[6] == 'lease') then
  -- A run that goes on, and is detached or asked to stop: the scheduler watches its lease.
  due = tonumber(seen[10])
elseif due then
  put('due_at', text(due))
end
redis.call('HSET', KEYS[1], unpack(fields))
local first_deleted, last_deleted = next_arg + given + 1, #ARGV
-- The first run of its job says so, which has its lease, and which nobody has detached or asked to
-- stop: the others are not there, and to look for what is not there takes longest.
local is_first = ARGV[12] == 'fence' and string.sub(ARGV[4], 1, 2) == '1-'
if is_first and seen[10] and not is_watched then
  last_deleted = next_arg + given + number(ARGV[10])
end
if first_deleted <= last_deleted then
  redis.call('HDEL', KEYS[1], unpack(ARGV, first_deleted, last_deleted))
end
move(ARGV[1], at, from_set, to_set)
set_timer(ARGV[1], due, seen[7], terminal)
local word = ARGV[3] ~= '' and ARGV[3] or to
remember(revision, at, ARGV[2], to, seen[6], ARGV[7], false)
notify(seen[14], seen[15], word, to, terminal, revision, at, seen[6], number(ARGV[8]))
return table.concat({ 'applied', to, text(revision), dispatch }, ' ')

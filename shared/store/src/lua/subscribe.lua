-- Changes what is pushed of a job and where, pushes what was not delivered again, and returns the
-- record as it is then.
-- KEYS  1-5 as in change.lua
-- ARGV  1 '1' if the changes are given   2 the changes, joined by commas ('' none)
--       3 where they go ('' as before)   4 where they go if no place was ever named ('' nowhere)
--       5 '1' to push again what was not delivered   6 final states, joined by commas
--       7 events that are no arrival in a state: event=word, joined by commas   8 outbox bound
--       9… the fields to return
-- Returns  changed at field… | nowhere | busy | the kind of record that stands there | none
-- Atomic because a change between storing and reading would be neither pushed nor returned.
-- Not a change: the revision stays.
-- Bounded by the length of the timeline.
local seen = redis.call('HMGET', KEYS[1], 'record', 'notify', 'notify_to', 'reply_to', 'client',
  'delivered_revision', 'undeliverable_from', 'gap_from')
if seen[1] ~= 'job' then return { seen[1] or 'none' } end
-- Where the receipt went by direct reply-to, no event can go.
if seen[4] and string.sub(seen[4], 1, 22) == 'amq.rabbitmq.reply-to.' then seen[4] = false end
local words, to = seen[2] or '', seen[3] or seen[4] or ''
if ARGV[1] == '1' then words = ARGV[2] end
if ARGV[3] ~= '' then to = ARGV[3] end
if to == '' then to = ARGV[4] end
if words ~= '' and to == '' then return { 'nowhere' } end
-- A final state is pushed however much waits, so what is asked for again must be bounded here.
if ARGV[5] == '1'
  and tonumber(redis.call('HGET', KEYS[4], seen[5]) or 0) >= tonumber(ARGV[8]) then
  return { 'busy' }
end
if words == '' then
  redis.call('HDEL', KEYS[1], 'notify')
else
  redis.call('HSET', KEYS[1], 'notify', words)
end
if to ~= '' and to ~= (seen[3] or seen[4]) then redis.call('HSET', KEYS[1], 'notify_to', to) end

if ARGV[5] == '1' and words ~= '' then
  local from = tonumber(seen[6] or 0) + 1
  if seen[7] and tonumber(seen[7]) < from then from = tonumber(seen[7]) end
  redis.call('HDEL', KEYS[1], 'undeliverable', 'undeliverable_from', 'undeliverable_reason')
  -- What was joined into a gap is pushed again as well; what the timeline has left out is a gap.
  if seen[8] and tonumber(seen[8]) >= from then redis.call('HDEL', KEYS[1], 'gap_from') end
  local expected, missing = from, nil
  for _, line in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
    local revision, at, event, state, attempt, detail =
      string.match(line, '^(%d+) (%d+) (%S+) (%S+) (%d+) ?(.*)$')
    if revision and tonumber(revision) >= from then
      if tonumber(revision) > expected then missing = missing or expected end
      expected = tonumber(revision) + 1
      local word = string.match(',' .. ARGV[7] .. ',', ',' .. event .. '=([^,]+),')
      local terminal = '0'
      if not word then
        word = state
        if string.find(',' .. ARGV[6] .. ',', ',' .. state .. ',', 1, true) then terminal = '1' end
      end
      if string.find(',' .. words .. ',', ',' .. word .. ',', 1, true) then
        if missing then redis.call('HSETNX', KEYS[1], 'gap_from', missing) end
        missing = nil
        local values = redis.call('HMGET', KEYS[1], unpack(EVENT_FIELDS))
        -- As it was then.
        values[STAGE], values[PROGRESS], values[PROGRESS_NOTE] = false, false, false
        if terminal ~= '1' then values[RESULT], values[ERROR] = false, false end
        if word == 'progress' and string.match(detail, '^%d+ ') then
          values[PROGRESS], values[PROGRESS_NOTE] = string.match(detail, '^(%d+) (.*)$')
        elseif word ~= state then
          values[word == 'progress' and PROGRESS or STAGE] = detail
        end
        post_event(to, word, state, terminal, tonumber(revision), at, attempt, values,
          tonumber(ARGV[8]))
      end
    end
  end
end
return { 'changed', now_ms(), unpack(redis.call('HMGET', KEYS[1], unpack(ARGV, 9))) }

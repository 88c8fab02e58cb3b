-- The identifiers of a client's jobs, newest first, from where the page before ended.
-- KEYS  1 the client's jobs, or those with a tag
-- ARGV  1 not after ('+inf', or ms)   2 not before ('-inf', or ms)   3 how many
--       4 where the page before ended: ms ('' the beginning)   5 and the identifier there
-- Returns  ms, identifier, ms, identifier, …
-- Bounded by ARGV 3, and by the jobs that were accepted in the same millisecond.
local most, last = tonumber(ARGV[3]), ARGV[4]

-- By bytes, as sorted sets are, and not as the server's locale compares texts.
local function comes_before(a, b)
  for n = 1, math.min(#a, #b) do
    local x, y = string.byte(a, n), string.byte(b, n)
    if x ~= y then return x < y end
  end
  return #a < #b
end

if last == '' then
  return redis.call('ZREVRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[2], 'WITHSCORES', 'LIMIT', 0, most)
end
-- Those of the same millisecond come in falling order of their bytes.
local found, offset, skipping = {}, 0, true
while #found < 2 * most do
  local part = redis.call('ZREVRANGEBYSCORE', KEYS[1], last, ARGV[2], 'WITHSCORES', 'LIMIT', offset,
    most)
  if #part == 0 then break end
  for n = 1, #part, 2 do
    if not skipping or part[n + 1] ~= last or comes_before(part[n], ARGV[5]) then
      skipping = false
      found[#found + 1], found[#found + 2] = part[n], part[n + 1]
      if #found >= 2 * most then break end
    end
  end
  offset = offset + most
end
return found

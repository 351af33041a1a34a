#!lua name=@LIBRARY@
-- What users were shown lately: one server-side function.
--
-- Atomicity: as in library.lua. The function runs alone, reads and checks first, then writes once.
--
-- Keys, one a user (see keys.py):
--   record  string  layout 1: byte 0 is 1; bytes 1 to 3 begin the SHA-1 of all that follows; then
--                   exposures of 8 bytes, in the order in which they were marked: the second since
--                   1970 modulo 2^24, an u24, and 40 bits of the arm's hash, all little-endian.
--                   Expires with the last exposure (see seen_record.py).

local LAYOUT = '\1'
local HEADER, EXPOSURE = 4, 8
local WRAP, AHEAD = 16777216, 1225215 -- 2^24 seconds, of which so many are the future

local function checksum(body)
  local hex = redis.sha1hex(body)
  return string.char(
    tonumber(string.sub(hex, 1, 2), 16),
    tonumber(string.sub(hex, 3, 4), 16),
    tonumber(string.sub(hex, 5, 6), 16)
  )
end

local function holds(body, exposure)
  local from = 1
  while true do
    local at = string.find(body, exposure, from, true)
    if not at then
      return false
    end
    if at % EXPOSURE == 1 then
      return true
    end
    from = at + 1 -- the same bytes across two exposures
  end
end

-- mark(keys: record; args: now, horizon, most, exposures) -> {OK | RENEWED, dropped} | {INVALID, why}
-- Adds exposures that the record does not hold yet, so that marking twice changes nothing. Removes
-- the oldest as long as they are older than `horizon` seconds, and beyond `most`: `dropped` of these
-- were not too old. A damaged record is begun anew: RENEWED.
local function mark(keys, args)
  local record, new = keys[1], args[4]
  if new == '' then
    return { 'OK', '0' }
  end
  local horizon, most = tonumber(args[2]), tonumber(args[3])
  -- A caller whose clock runs ahead must not remove what is not old.
  local now = math.min(tonumber(args[1]), tonumber(redis.call('TIME')[1]))
  local stored = redis.call('GETRANGE', record, 0, HEADER + EXPOSURE * most)
  local word, body = 'OK', ''
  if stored ~= '' then
    if string.sub(stored, 1, 1) ~= LAYOUT then
      return { 'INVALID', 'another layout' }
    end
    body = string.sub(stored, HEADER + 1)
    if
      #body > EXPOSURE * most
      or #body % EXPOSURE ~= 0
      or string.sub(stored, 2, HEADER) ~= checksum(body)
    then
      word, body = 'RENEWED', ''
    end
  end
  local parts = { body }
  for at = 1, #new, EXPOSURE do
    local exposure = string.sub(new, at, at + EXPOSURE - 1)
    if not holds(body, exposure) then
      parts[#parts + 1] = exposure
    end
  end
  body = table.concat(parts)
  local first = 1
  while first < #body do
    local low, middle, high = string.byte(body, first, first + 2)
    local age = (now - low - 256 * middle - 65536 * high) % WRAP
    if age <= horizon or age >= WRAP - AHEAD then
      break
    end
    first = first + EXPOSURE
  end
  local dropped = math.max(0, (#body - first + 1) / EXPOSURE - most)
  body = string.sub(body, first + dropped * EXPOSURE)
  redis.call('SET', record, LAYOUT .. checksum(body) .. body, 'EX', horizon + 1)
  return { word, string.format('%d', dropped) }
end

redis.register_function('@LIBRARY@_mark', mark)

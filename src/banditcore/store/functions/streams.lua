#!lua name=@LIBRARY@
-- Streams of events, the leases of those who apply them: server-side functions.
--
-- Offsets are whole numbers below 2^53: the server's time in microseconds, or more when events come
-- faster than one a microsecond. A new one is larger than all before, even when a failover lost the
-- end of the stream, as long as the new primary's clock is not behind by more than the failover took.
--
-- Keys, all of one partition with one hash tag (see keys.py):
--   stream    stream  entries "<first>-<count>": the events of offsets first .. first + count - 1.
--                     b  the packed events (see event_format.py)
--                     t  events that were ever appended before it
--                     s  bytes of the bodies of these
--   offsets   hash    end             the last offset that was given away
--                     total, bytes    events ever appended, bytes of their bodies
--                     applied         the last offset that is applied, as `trim` was told last
--                     applied_total   events up to it
--                     dead, dead_bytes   dead letters ever written; bytes of those kept
--   producer  string  "<sequence> <first>" of the producer's last append, sealed; expires after a day
--   dead      sorted set  offset -> offset i64, length of the reason u32, the reason, the event
--   lease     hash    token, epoch, until (milliseconds)

-- @PRELUDE@

local PRODUCER_EXPIRES_S = 86400
local PAGE = 8 -- entries of up to 512 KiB that are looked at together
local MOST_TRIMMED = 64 -- entries whose bytes one call of `trim` looks at
local LARGEST_OFFSET = 9007199254740991 -- beyond it Lua's numbers skip some
local UNKNOWN_FIRST = ''
local REPLAYED = 'replayed as offset '

local function decimal(number)
  return string.format('%.0f', number)
end

-- The server's time in whole microseconds.
local function micros()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- A whole number as it is stored; nil when it is none.
local function whole(raw)
  return string.match(raw, '^%-?%d+$') and tonumber(raw)
end

-- Fields of a hash as whole numbers, 0 where there is none; or nil and the reply to give.
local function numbers(key, ...)
  local stored = redis.call('HMGET', key, ...)
  for i = 1, #stored do
    stored[i] = whole(stored[i] or '0')
    if not stored[i] then
      return nil, corrupt((select(i, ...)))
    end
  end
  return stored
end

-- First offset and count of an entry, which the server knows to be numbers.
local function parts(entry)
  local first, count = string.match(entry[1], '^(%d+)-(%d+)$')
  return tonumber(first), tonumber(count)
end

-- The value of a field of an entry.
local function value(entry, name)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == name then
      return entry[2][i + 1]
    end
  end
end

-- The last entry that begins at `offset` or before; nil when there is none.
local function entry_before(stream, offset)
  return redis.call('XREVRANGE', stream, decimal(offset), '-', 'COUNT', 1)[1]
end

-- Appends an entry, unless `most` events or more are not applied; returns a reply and whether it did.
-- Nothing is written when it did not, and nothing that is written can fail.
local function add(stream, offsets, count, most, body)
  local stored, refusal = numbers(offsets, 'end', 'total', 'applied_total', 'bytes')
  if not stored then
    return refusal, false
  end
  local unapplied = stored[2] - stored[3]
  if unapplied >= most then
    return { 'FULL', decimal(unapplied) }, false
  end
  local first = math.max(stored[1] + 1, micros())
  if first + count > LARGEST_OFFSET then
    return { 'INVALID', 'no offsets are left' }, false
  end
  local id = decimal(first) .. '-' .. decimal(count)
  -- Fails first, if any.
  redis.call('XADD', stream, id, 't', decimal(stored[2]), 's', decimal(stored[4]), 'b', body)
  local last, total, bytes = first + count - 1, stored[2] + count, stored[4] + #body
  redis.call('HSET', offsets, 'end', decimal(last), 'total', decimal(total), 'bytes', decimal(bytes))
  return { 'OK', decimal(first) }, true
end

-- append(keys: stream, offsets, producer; args: sequence, count, most, body)
--   -> {OK, first} | {ALREADY, first} | {FULL, unapplied} | {CORRUPT, what} | {INVALID, why}
-- Appends one entry of `count` events. `sequence` counts the entries of a producer, from 1: one that
-- was seen before, or is older, changes nothing (`first` is "" when it is older). Refused as FULL
-- while `most` events or more are not applied; so at most one entry goes beyond.
local function append(keys, args)
  local stream, offsets, producer = keys[1], keys[2], keys[3]
  local sequence, count, most = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  local last = redis.call('GET', producer)
  if last then
    local seen, first = string.match(unsealed(last) or '', '^(%d+) (%d+)$')
    if not seen then
      return corrupt('producer')
    end
    seen = tonumber(seen)
    if sequence <= seen then
      return { 'ALREADY', sequence == seen and first or UNKNOWN_FIRST }
    end
  end
  local reply, done = add(stream, offsets, count, most, args[4])
  if done then
    local stamp = sealed(decimal(sequence) .. ' ' .. reply[2])
    redis.call('SET', producer, stamp, 'EX', PRODUCER_EXPIRES_S)
  end
  return reply
end

-- read(keys: stream, offsets; args: after, events, entries) -> {id, body, ...} | {CORRUPT, field}
-- Entries that hold an offset beyond `after`, from the first on, until they hold `events` events or
-- are `entries` many. Writes nothing.
local function read(keys, args)
  local stream, after = keys[1], tonumber(args[1])
  local events, entries = tonumber(args[2]), tonumber(args[3])
  local reply, held = {}, 0
  local last = redis.call('HGET', keys[2], 'end')
  if last and not whole(last) then
    return corrupt('end')
  end
  if last and tonumber(last) <= after then
    return reply -- without the last entry, which is large, being looked at
  end
  local start = '(' .. decimal(after) .. '-18446744073709551615'
  local within = entry_before(stream, after)
  if within then
    local first, count = parts(within)
    if first + count - 1 > after then
      start = within[1]
    end
  end
  while true do
    local page = redis.call('XRANGE', stream, start, '+', 'COUNT', PAGE)
    for _, entry in ipairs(page) do
      local _, count = parts(entry)
      reply[#reply + 1] = entry[1]
      reply[#reply + 1] = value(entry, 'b') or ''
      held = held + count
      if held >= events or #reply >= 2 * entries then
        return reply
      end
      start = '(' .. entry[1]
    end
    if #page < PAGE then
      return reply
    end
  end
end

-- survey(keys: stream; args: after, entries) -> {id, before, bytes, ...}
-- What entries beyond the id `after`, "" for all, say of themselves: how many events came before
-- them, and how long their bodies are; "" for what one lacks. Writes nothing.
local function survey(keys, args)
  local reply = {}
  local start = args[1] == '' and '-' or '(' .. args[1]
  for _, entry in ipairs(redis.call('XRANGE', keys[1], start, '+', 'COUNT', args[2])) do
    local body = value(entry, 'b')
    reply[#reply + 1] = entry[1]
    reply[#reply + 1] = value(entry, 't') or ''
    reply[#reply + 1] = body and decimal(#body) or ''
  end
  return reply
end

-- trim(keys: stream, offsets; args: applied, retain_us, retain_bytes) -> {OK, removed} | {CORRUPT, field}
-- Notes that everything up to offset `applied` is applied, and removes entries of which that is
-- true and whose first offset is older than `retain_us` microseconds; and the oldest of the others,
-- some at a time, until the bodies of those that are applied take `retain_bytes` or less.
local function trim(keys, args)
  local stream, offsets, applied = keys[1], keys[2], tonumber(args[1])
  local keep = math.min(applied + 1, math.max(0, micros() - tonumber(args[2])))
  local fields = { 'applied', decimal(applied) }
  redis.call('HGET', offsets, 'applied') -- a key of another type fails here, before any write
  local entry = entry_before(stream, applied)
  if entry then
    local first, count = parts(entry)
    local before = whole(value(entry, 't') or '0')
    if not before then
      return corrupt('t')
    end
    fields[3], fields[4] = 'applied_total', decimal(before + math.min(count, applied - first + 1))
    local bytes = whole(value(entry, 's') or '0') -- that are applied
    if not bytes then
      return corrupt('s')
    end
    if first + count - 1 > applied then
      keep = math.min(keep, first)
    else
      bytes = bytes + #(value(entry, 'b') or '')
    end
    for _ = 1, MOST_TRIMMED do
      local oldest = redis.call('XRANGE', stream, decimal(keep), '+', 'COUNT', 1)[1]
      if not oldest then
        break
      end
      first, count = parts(oldest)
      local before = whole(value(oldest, 's') or '0')
      if not before then
        return corrupt('s')
      end
      if first + count - 1 > applied or bytes - before <= tonumber(args[3]) then
        break
      end
      keep = first + count
    end
  end
  local removed = redis.call('XTRIM', stream, 'MINID', '=', decimal(keep))
  redis.call('HSET', offsets, unpack(fields))
  return { 'OK', decimal(removed) }
end

-- advance(keys: offsets; args: beyond) -> {OK, end} | {CORRUPT, field} | {INVALID, why}
-- From now on new offsets are larger than `beyond`.
local function advance(keys, args)
  local stored, refusal = numbers(keys[1], 'end')
  if not stored then
    return refusal
  end
  local last, beyond = stored[1], tonumber(args[1])
  if beyond > LARGEST_OFFSET then
    return { 'INVALID', 'an offset is below 2^53' }
  end
  if beyond > last then
    redis.call('HSET', keys[1], 'end', decimal(beyond))
    last = beyond
  end
  return { 'OK', decimal(last) }
end

-- dead_letter(keys: dead, offsets; args: most, most_bytes, letter, ...)
--   -> {OK, written} | {CORRUPT, field}
-- Keeps events that could not be used, once an offset. Of more than `most`, or of more than
-- `most_bytes` in all, those of the lowest offsets go. A letter begins with its offset, an i64.
local function dead_letter(keys, args)
  local dead, offsets = keys[1], keys[2]
  local most, most_bytes = tonumber(args[1]), tonumber(args[2])
  local stored, refusal = numbers(offsets, 'dead_bytes', 'dead')
  if not stored then
    return refusal
  end
  local bytes, written = stored[1], 0
  for i = 3, #args do
    local low, high = struct.unpack('<I4I4', args[i])
    local offset = decimal(high * 4294967296 + low)
    if redis.call('ZCOUNT', dead, offset, offset) == 0 then
      redis.call('ZADD', dead, offset, args[i])
      bytes, written = bytes + #args[i], written + 1
    end
  end
  local kept = redis.call('ZCARD', dead) -- a key of another type fails here at the latest
  while kept > most or (bytes > most_bytes and kept > 1) do
    bytes = bytes - #redis.call('ZPOPMIN', dead)[1]
    kept = kept - 1
  end
  redis.call('HINCRBY', offsets, 'dead', written)
  redis.call('HSET', offsets, 'dead_bytes', decimal(bytes))
  return { 'OK', decimal(written) }
end

-- replay(keys: stream, offsets, dead; args: offset, count, body)
--   -> {OK, first} | {ALREADY, ""} | {CORRUPT, field} | {INVALID, why}
-- Appends the `count` events of the dead letter of an offset. Only a letter that says so, without the
-- events, stays, so that they are not kept, and replayed, again when the stream is read once more.
-- ALREADY when there is no other.
local function replay(keys, args)
  local offsets, dead, offset = keys[2], keys[3], args[1]
  local stored, refusal = numbers(offsets, 'dead_bytes')
  if not stored then
    return refusal
  end
  local bytes = stored[1]
  redis.call('XLEN', keys[1]) -- a key of another type fails here, whatever there is to do
  local letter = redis.call('ZRANGEBYSCORE', dead, offset, offset)[1]
  if not letter or #letter == 12 + struct.unpack('<I4', letter, 9) then
    return { 'ALREADY', UNKNOWN_FIRST }
  end
  local reply, done = add(keys[1], offsets, tonumber(args[2]), math.huge, args[3])
  if done then
    local reason = REPLAYED .. reply[2]
    local left = string.sub(letter, 1, 8) .. struct.pack('<I4', #reason) .. reason
    redis.call('ZREM', dead, letter)
    redis.call('ZADD', dead, offset, left)
    redis.call('HSET', offsets, 'dead_bytes', decimal(bytes - #letter + #left))
  end
  return reply
end

-- lease_acquire(keys: lease; args: token, ttl_ms)
--   -> {OK, epoch} | {HELD, milliseconds left} | {CORRUPT, field}
-- Makes `token` the owner unless another is. Each owner has a larger epoch than all before: the
-- server's milliseconds, so that an epoch which a failover lost is not given away again.
local function lease_acquire(keys, args)
  local stored, refusal = numbers(keys[1], 'epoch', 'until')
  if not stored then
    return refusal
  end
  local now = math.floor(micros() / 1000)
  local epoch, left = stored[1], stored[2] - now
  if redis.call('HGET', keys[1], 'token') ~= args[1] then
    if left > 0 then
      return { 'HELD', decimal(left) }
    end
    epoch = math.max(epoch + 1, now)
  end
  local expires = decimal(now + tonumber(args[2]))
  redis.call('HSET', keys[1], 'token', args[1], 'epoch', decimal(epoch), 'until', expires)
  return { 'OK', decimal(epoch) }
end

-- lease_renew(keys: lease; args: token, ttl_ms) -> {OK} | {LOST}
-- Extends the lease of `token`, even one that has run out, unless another has taken it since.
local function lease_renew(keys, args)
  if redis.call('HGET', keys[1], 'token') ~= args[1] then
    return { 'LOST' }
  end
  redis.call('HSET', keys[1], 'until', decimal(math.floor(micros() / 1000) + tonumber(args[2])))
  return { 'OK' }
end

-- lease_release(keys: lease; args: token) -> {OK} | {LOST}
-- Gives the lease up. The key stays, for its epoch.
local function lease_release(keys, args)
  if redis.call('HGET', keys[1], 'token') ~= args[1] then
    return { 'LOST' }
  end
  redis.call('HSET', keys[1], 'token', '', 'until', '0')
  return { 'OK' }
end

-- leave(keys: stream; args: group, consumer) -> {OK} | {PENDING}
-- Removes a consumer of a group that has nothing pending. What it had would be given to nobody any more, so no
-- delivery may come between the look and the removal.
local function leave(keys, args)
  if #redis.call('XPENDING', keys[1], args[1], '-', '+', 1, args[2]) > 0 then
    return { 'PENDING' }
  end
  redis.call('XGROUP', 'DELCONSUMER', keys[1], args[1], args[2])
  return { 'OK' }
end

redis.register_function('@LIBRARY@_append', append)
redis.register_function({ function_name = '@LIBRARY@_read', callback = read, flags = { 'no-writes' } })
redis.register_function({ function_name = '@LIBRARY@_survey', callback = survey, flags = { 'no-writes' } })
redis.register_function('@LIBRARY@_trim', trim)
redis.register_function('@LIBRARY@_advance', advance)
redis.register_function('@LIBRARY@_dead_letter', dead_letter)
redis.register_function('@LIBRARY@_replay', replay)
redis.register_function('@LIBRARY@_leave', leave)
redis.register_function('@LIBRARY@_lease_acquire', lease_acquire)
redis.register_function('@LIBRARY@_lease_renew', lease_renew)
redis.register_function('@LIBRARY@_lease_release', lease_release)

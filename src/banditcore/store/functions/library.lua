#!lua name=@LIBRARY@
-- Reads a segment, changes what all its counts are kept with, publishes its slates: server-side functions.

-- @PRELUDE@

-- The registry from a known length on, or whole when its first bytes are not the known ones.
local function registry_tail(arms, same_token, known_bytes, known_sha1)
  if known_bytes > 0 and (same_token or redis.sha1hex(redis.call('GETRANGE', arms, 0, known_bytes - 1)) == known_sha1) then
    return known_bytes, redis.call('GETRANGE', arms, known_bytes, -1)
  end
  return 0, redis.call('GETRANGE', arms, 0, -1)
end

-- read(keys: state, arms; args: known_token, known_bytes, known_sha1, with_counts)
--   -> {} when the segment does not exist, else
--      {v, t, n, server time in microseconds, start of the tail, tail of the registry, chunk, ...}
--      | {CORRUPT, field} | {CORRUPT, n, v}
-- Reads one moment; writes nothing. with_counts is "1" or "0".
local function read(keys, args)
  local state, arms = keys[1], keys[2]
  local stored = redis.call('HMGET', state, 'v', 't', 'n')
  local version, token, slots = stored[1], stored[2] or '', stored[3]
  if not version then
    return {}
  end
  slots = not slots and '0' or unsealed(slots)
  if not slots or not string.match(slots, '^%d+$') then
    return { 'CORRUPT', 'n', version } -- which may be of a release that wrote n otherwise
  end
  local start, tail = registry_tail(arms, token == args[1], tonumber(args[2]), args[3])
  local time = redis.call('TIME')
  local micros = string.format('%s%06d', time[1], tonumber(time[2]))
  local reply = { version, token, slots, micros, string.format('%d', start), tail }
  if args[4] == '1' then
    local chunks = math.ceil(tonumber(slots) / SLOTS_PER_CHUNK)
    for first = 0, chunks - 1, MOST_ARGUMENTS do
      local fields = {}
      for j = first, math.min(first + MOST_ARGUMENTS, chunks) - 1 do
        fields[#fields + 1] = chunk_field(j)
      end
      for i, chunk in ipairs(redis.call('HMGET', state, unpack(fields))) do
        if chunk == '' then -- as a cut one; a missing one has no counts yet
          return corrupt(fields[i])
        end
        reply[#reply + 1] = chunk or ''
      end
    end
  end
  return reply
end

-- sign(keys: state)
--   -> {} when the segment does not exist, else {digest, server time in microseconds} | {CORRUPT, field}
-- A digest of all that the counts of a segment follow from: the same twice, and nothing has changed
-- between. Marks and windows are not in it. Reads one moment; writes nothing.
local function sign(keys)
  local stored = redis.call('HMGET', keys[1], 'v', 't', 'n')
  if not stored[1] then
    return {}
  end
  local parts = { stored[1], stored[2] or '', stored[3] or '0' }
  local slots = slot_count(keys[1])
  if not slots then
    return corrupt('n')
  end
  local chunks = math.ceil(slots / SLOTS_PER_CHUNK)
  for first = 0, chunks - 1, MOST_ARGUMENTS do
    local fields = {}
    for j = first, math.min(first + MOST_ARGUMENTS, chunks) - 1 do
      fields[#fields + 1] = chunk_field(j)
    end
    for _, chunk in ipairs(redis.call('HMGET', keys[1], unpack(fields))) do
      parts[#parts + 1] = chunk or ''
    end
  end
  local sizes = {} -- so that bytes which move from one part to the next are seen
  for i, part in ipairs(parts) do
    sizes[i] = #part
  end
  parts[#parts + 1] = table.concat(sizes, ' ')
  local time = redis.call('TIME')
  return { redis.sha1hex(table.concat(parts)), string.format('%s%06d', time[1], tonumber(time[2])) }
end

-- open_segment(keys: state, arms; args: version) -> as read, without counts
-- Creates the segment with the given version unless it exists. One write.
local function open_segment(keys, args)
  redis.call('STRLEN', keys[2]) -- a key of another type fails here, before any write
  redis.call('HSETNX', keys[1], 'v', args[1])
  return read(keys, { '', '0', '', '0' })
end

-- All chunks as tables, by number; nil and a reply when one is corrupt.
local function all_chunks(state)
  local chunks, slots = {}, slot_count(state)
  if not slots then
    return nil, corrupt('n')
  end
  for j = 0, math.ceil(slots / SLOTS_PER_CHUNK) - 1 do
    local numbers = read_chunk(redis.call('HGET', state, chunk_field(j)))
    if not numbers then
      return nil, corrupt(chunk_field(j))
    end
    chunks[j] = numbers
  end
  return chunks
end

-- rescale(keys: state; args: version, new_version, landmark, now, factor)
--   -> {OK} | {STALE} | {EARLY, limit} | {CORRUPT, field} | {OVERFLOW, field}
-- Multiplies all counts: moves the landmark, or changes the half-life. One HSET.
local function rescale(keys, args)
  local state, factor = keys[1], struct.unpack('<d', args[5])
  if redis.call('HGET', state, 'v') ~= args[1] then
    return { 'STALE' }
  end
  local early = too_early(args[3], clock(args[4]))
  if early then
    return early
  end
  local chunks, refusal = all_chunks(state)
  if not chunks then
    return refusal
  end
  local arguments = { 'v', args[2] }
  for j, numbers in pairs(chunks) do
    if #numbers > 0 then
      for at = 1, #numbers do
        numbers[at] = numbers[at] * factor
        if not is_finite(numbers[at]) then
          return { 'OVERFLOW', chunk_field(j) }
        end
      end
      arguments[#arguments + 1] = chunk_field(j)
      arguments[#arguments + 1] = write_chunk(numbers)
    end
  end
  write_fields(state, arguments)
  return { 'OK' }
end

-- compact(keys: state, arms; args: version, token, new_version, new_token, new_registry, kept)
--   -> {OK} | {STALE} | {CORRUPT, field}
-- Keeps the given slots (u32 each, ascending), renumbered from 0, under a new epoch.
local function compact(keys, args)
  local state, arms, kept = keys[1], keys[2], args[6]
  if is_stale(state, args[1], args[2]) then
    return { 'STALE' }
  end
  local old, refusal = all_chunks(state)
  if not old then
    return refusal
  end
  local count = #kept / 4
  local arguments = { 'v', args[3], 't', args[4], 'n', written_slot_count(count) }
  local removed = {}
  for j in pairs(old) do
    removed[#removed + 1] = chunk_field(j)
  end
  local numbers = {}
  for i = 0, count - 1 do
    local slot = struct.unpack('<I4', kept, 4 * i + 1)
    local source = old[math.floor(slot / SLOTS_PER_CHUNK)]
    if not source then
      return corrupt('n')
    end
    local at = 2 * (slot % SLOTS_PER_CHUNK) + 1
    numbers[#numbers + 1] = source[at] or 0
    numbers[#numbers + 1] = source[at + 1] or 0
    if #numbers == 2 * SLOTS_PER_CHUNK or i == count - 1 then
      arguments[#arguments + 1] = chunk_field(math.floor(i / SLOTS_PER_CHUNK))
      arguments[#arguments + 1] = write_chunk(numbers)
      numbers = {}
    end
  end
  for first = 1, #removed, MOST_ARGUMENTS do
    redis.call('HDEL', state, unpack(removed, first, math.min(first + MOST_ARGUMENTS - 1, #removed)))
  end
  redis.call('SET', arms, args[5])
  write_fields(state, arguments)
  return { 'OK' }
end

-- The version in the 32 bytes before a blob's body.
local function blob_version(header)
  local low, high = struct.unpack('<I4I4', header, 9)
  return high * 4294967296 + low
end

-- publish(keys: blob; args: version, body) -> {OK} | {SUPERSEDED, version}
-- Replaces the blob unless a newer one is there. `version` in decimal, microseconds since 1970.
-- One SET. A stored version from the future is damage, or a clock that was wrong: it would stay.
local function publish(keys, args)
  local header = redis.call('GETRANGE', keys[1], 0, 31)
  if #header == 32 and string.sub(header, 1, 4) == 'BCSL' then
    local stored = blob_version(header)
    local believed = stored <= (server_time() + MOST_AHEAD_S) * 1e6
    if stored > tonumber(args[1]) and believed then
      return { 'SUPERSEDED', string.format('%.0f', stored) }
    end
  end
  redis.call('SET', keys[1], args[2])
  return { 'OK' }
end

-- restamp(keys: blob; args: expected, header, body_sha1) -> {OK} | {OTHER} | {SUPERSEDED, version}
-- Puts another header, with a later version, before the body of a blob, if the header there is the
-- expected one, which vouches for the body. body_sha1 "" does not look whether that is damaged: to
-- look takes as long as to publish. One SETRANGE.
local function restamp(keys, args)
  local expected, header = args[1], args[2]
  if #expected ~= 32 or redis.call('GETRANGE', keys[1], 0, 31) ~= expected then
    return { 'OTHER' }
  end
  local stored = blob_version(expected)
  if redis.call('STRLEN', keys[1]) ~= struct.unpack('<I4', expected, 17) then
    return { 'OTHER' } -- no blob has more than 4 GiB
  end
  if blob_version(header) <= stored then
    return { 'SUPERSEDED', string.format('%.0f', stored) }
  end
  if args[3] ~= '' and redis.sha1hex(redis.call('GETRANGE', keys[1], 32, -1)) ~= args[3] then
    return { 'OTHER' }
  end
  redis.call('SETRANGE', keys[1], 0, header)
  return { 'OK' }
end

-- agree(keys: settings; args: half_life_s, window_s) -> {half_life_s, window_s}
-- Settles what a bandit is kept with, unless that was done before. One write.
local function agree(keys, args)
  local stored = redis.call('HMGET', keys[1], 'h', 'w')
  if stored[1] and stored[2] then
    return stored
  end
  redis.call('HSET', keys[1], 'h', args[1], 'w', args[2])
  return { args[1], args[2] }
end

-- settle(keys: settings; args: half_life_s, window_s) -> {OK} | {IMPORTING}
-- Replaces what a bandit is kept with, unless it is being imported. One write.
local function settle(keys, args)
  if redis.call('HGET', keys[1], 'h') == 'importing' then
    return { 'IMPORTING' }
  end
  redis.call('HSET', keys[1], 'h', args[1], 'w', args[2])
  return { 'OK' }
end

redis.register_function({ function_name = '@LIBRARY@_read', callback = read, flags = { 'no-writes' } })
redis.register_function({ function_name = '@LIBRARY@_sign', callback = sign, flags = { 'no-writes' } })
redis.register_function('@LIBRARY@_open_segment', open_segment)
redis.register_function('@LIBRARY@_rescale', rescale)
redis.register_function('@LIBRARY@_compact', compact)
redis.register_function('@LIBRARY@_publish', publish)
redis.register_function('@LIBRARY@_restamp', restamp)
redis.register_function('@LIBRARY@_agree', agree)
redis.register_function('@LIBRARY@_settle', settle)

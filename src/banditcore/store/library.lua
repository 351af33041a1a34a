#!lua name=@LIBRARY@
-- Everything that changes statistics or slates of a segment, as server-side functions.
--
-- Atomicity: a function runs alone. Each one first reads and checks everything, then writes;
-- nothing after the first write can fail. The server refuses to start a writing function when
-- memory is full. Replies are words, so that a client can not mistake one for a count.
--
-- Keys, all with one hash tag (see keys.py):
--   state   hash  v       version: schema u16, 0 u16, epoch u32, landmark f64, half-life f64,
--                         window f64. Compared as a whole: a caller that holds another version
--                         is answered STALE and changes nothing.
--                 t       token of the registry: random, new with every change of it. A writer that
--                         holds another token is answered STALE, so that a registry which went
--                         back in time with a failover never puts counts on the wrong arm.
--                 n       number of arm slots, decimal
--                 c:<j>   counts of slots 128 j .. 128 j + 127: f64 trials, f64 successes each,
--                         little-endian; short when the last slots have no counts yet
--                 m:...   mark of a source's partition: "<epoch> <offset>"
--                 w:<p>   window bucket that the set of parity p belongs to, decimal
--   arms    string, for each slot: length - 1 as u8, then the id
--   even, odd   sets of 16-byte digests, for window buckets of even and odd number
--   blob    string, a published snapshot: 32-byte header, version u64 at offset 8
-- and one of a bandit:
--   settings  hash  h, w: half-life and window in seconds, decimal; 0 is no half-life

local SLOTS_PER_CHUNK = 128
local SLOT_BYTES = 16
local DELTA_BYTES = 20 -- u32 slot, f64 trials, f64 successes
local DIGEST_BYTES = 16
local MOST_ARGUMENTS = 1000 -- unpack() and the stack of C calls have limits
local MOST_AHEAD_S = 3600 -- events.MAX_AHEAD_S: nothing later than the clock by more is believed

local chunk_formats = {}
local function chunk_format(numbers)
  local format = chunk_formats[numbers]
  if not format then
    format = '<' .. string.rep('d', numbers)
    chunk_formats[numbers] = format
  end
  return format
end

local function corrupt(what)
  return { 'CORRUPT', what }
end

-- The numbers of one chunk as a table, or nil when its length is impossible.
local function read_chunk(raw)
  if not raw then
    return {}
  end
  if #raw % SLOT_BYTES ~= 0 or #raw > SLOTS_PER_CHUNK * SLOT_BYTES then
    return nil
  end
  local numbers = { struct.unpack(chunk_format(#raw / 8), raw) }
  numbers[#numbers] = nil -- struct.unpack also returns the position after the last number
  return numbers
end

local function write_chunk(numbers)
  return struct.pack(chunk_format(#numbers), unpack(numbers))
end

local function chunk_field(chunk)
  return string.format('c:%d', chunk)
end

local function slot_count(state)
  return tonumber(redis.call('HGET', state, 'n') or '0')
end

local function is_finite(number)
  return number == number and number ~= math.huge and number ~= -math.huge
end

-- Adds deltas to the counts without writing them.
-- takes(i) says whether delta i counts; nil takes all.
-- Returns the arguments of the HSET that would write them, or nil and the reply to give.
local function added(update, deltas, takes)
  if #deltas % DELTA_BYTES ~= 0 then
    return nil, { 'INVALID', 'deltas are cut' }
  end
  local state, slots = update.state, update.slots
  local order, wanted = {}, {}
  for i = 1, #deltas / DELTA_BYTES do
    if not takes or takes(i) then
      local slot, trials, successes = struct.unpack('<I4dd', deltas, (i - 1) * DELTA_BYTES + 1)
      slot = update.renumbered[slot] or slot
      if slot >= slots then
        return nil, { 'INVALID', 'slot is not registered' }
      end
      local j = math.floor(slot / SLOTS_PER_CHUNK)
      local changes = wanted[j]
      if not changes then
        changes = {}
        wanted[j] = changes
        order[#order + 1] = j
      end
      changes[#changes + 1] = { slot % SLOTS_PER_CHUNK, trials, successes }
    end
  end
  local arguments = {}
  for _, j in ipairs(order) do
    local field = chunk_field(j)
    local numbers = read_chunk(redis.call('HGET', state, field))
    if not numbers then
      return nil, corrupt(field)
    end
    for _, change in ipairs(wanted[j]) do
      local at = 2 * change[1] + 1
      for gap = #numbers + 1, at + 1 do
        numbers[gap] = 0
      end
      numbers[at] = numbers[at] + change[2]
      numbers[at + 1] = numbers[at + 1] + change[3]
      if not (is_finite(numbers[at]) and is_finite(numbers[at + 1])) then
        return nil, { 'OVERFLOW', field }
      end
    end
    arguments[#arguments + 1] = field
    arguments[#arguments + 1] = write_chunk(numbers)
  end
  return arguments
end

-- One HSET as far as the stack allows; more only for segments of over 60,000 changed arms.
-- No HSET can fail after the first: the key is a hash and the arguments are strings.
local function write_fields(state, arguments)
  for first = 1, #arguments, MOST_ARGUMENTS do
    redis.call('HSET', state, unpack(arguments, first, math.min(first + MOST_ARGUMENTS - 1, #arguments)))
  end
end

local function server_time()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1e6
end

-- "" stands for the server's clock; tests bring their own.
local function clock(given)
  return given == '' and server_time() or tonumber(given)
end

local function is_stale(state, version, token)
  local stored = redis.call('HMGET', state, 'v', 't')
  return stored[1] ~= version or (stored[2] or '') ~= token
end

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
-- Reads one moment; writes nothing. with_counts is "1" or "0".
local function read(keys, args)
  local state, arms = keys[1], keys[2]
  local stored = redis.call('HMGET', state, 'v', 't', 'n')
  local version, token, slots = stored[1], stored[2] or '', stored[3] or '0'
  if not version then
    return {}
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
      for _, chunk in ipairs(redis.call('HMGET', state, unpack(fields))) do
        reply[#reply + 1] = chunk or ''
      end
    end
  end
  return reply
end

-- open_segment(keys: state, arms; args: version) -> as read, without counts
-- Creates the segment with the given version unless it exists. One write.
local function open_segment(keys, args)
  redis.call('STRLEN', keys[2]) -- a key of another type fails here, before any write
  redis.call('HSETNX', keys[1], 'v', args[1])
  return read(keys, { '', '0', '', '0' })
end

-- What every update begins with: version, token, new_token, count and tail, the first five of its
-- arguments. The last three register arms in the same step: `count` ids, stored as `tail`.
-- Returns the update, or nil and the reply to give.
local function begin(keys, args)
  local state, arms = keys[1], keys[2]
  redis.call('STRLEN', arms) -- a key of another type fails here, before any write
  if is_stale(state, args[1], args[2]) then
    return nil, { 'STALE' }
  end
  local count = tonumber(args[4])
  return {
    state = state,
    arms = arms,
    count = count,
    slots = slot_count(state) + count,
    new_token = args[3],
    tail = args[5],
    renumbered = {}, -- slot that the caller chose for a new arm -> the one it gets
  }
end

-- Of the arms that an update would register, keeps those that taken deltas name.
local function register_only_named(update, deltas, taken)
  local first = update.slots - update.count
  local named = {}
  for i = 1, #deltas / DELTA_BYTES do
    if taken[i] then
      named[struct.unpack('<I4', deltas, (i - 1) * DELTA_BYTES + 1)] = true
    end
  end
  local kept, at = {}, 1
  for slot = first, update.slots - 1 do
    local last = at + string.byte(update.tail, at) + 1
    if named[slot] then
      update.renumbered[slot] = first + #kept
      kept[#kept + 1] = string.sub(update.tail, at, last)
    end
    at = last + 1
  end
  update.count, update.slots, update.tail = #kept, first + #kept, table.concat(kept)
end

-- Writes the fields of an update with the arms that it registers.
local function commit(update, arguments)
  if update.count > 0 then
    redis.call('APPEND', update.arms, update.tail)
    for _, word in ipairs({ 'n', string.format('%d', update.slots), 't', update.new_token }) do
      arguments[#arguments + 1] = word
    end
  end
  write_fields(update.state, arguments)
end

-- The reply to an update whose newest event is ahead of the clock, else nil. One such event could
-- move the landmark so far that all evidence before it fades to nothing.
local function too_early(newest, now)
  local limit = now + MOST_AHEAD_S
  if newest ~= '' and tonumber(newest) > limit then
    return { 'EARLY', string.format('%.17g', limit) }
  end
end

-- add_arms(keys: state, arms; args: version, token, new_token, count, tail) -> {OK} | {STALE}
-- Appends `count` ids to the registry.
local function add_arms(keys, args)
  local update, refusal = begin(keys, args)
  if not update then
    return refusal
  end
  commit(update, {})
  return { 'OK' }
end

-- apply(keys: state, arms; args: version, token, new_token, count, tail, mark, epoch, expected, new, newest, now, deltas)
--   -> {OK} | {ALREADY} | {FENCED, epoch} | {CONFLICT, offset} | {EARLY, limit} | {STALE}
--      | {CORRUPT, field} | {OVERFLOW, field} | {INVALID, why}
-- Compare-and-set on the mark of a partition, with the deltas between two offsets. The mark
-- does not exist at offset "". `newest` is the time of the newest event, `now` "" for the
-- server's clock.
local function apply(keys, args)
  local mark, epoch, expected, new = args[6], tonumber(args[7]), args[8], args[9]
  local update, refusal = begin(keys, args)
  if not update then
    return refusal
  end
  local stored_epoch, stored = 0, ''
  local raw = redis.call('HGET', update.state, mark)
  if raw then
    local first, rest = string.match(raw, '^(%d+) (.*)$')
    if not first then
      return corrupt(mark)
    end
    stored_epoch, stored = tonumber(first), rest
  end
  if stored == new then
    return { 'ALREADY' }
  end
  if epoch < stored_epoch then
    return { 'FENCED', tostring(stored_epoch) }
  end
  if stored ~= expected then
    return { 'CONFLICT', stored }
  end
  local early = too_early(args[10], clock(args[11]))
  if early then
    return early
  end
  local arguments
  arguments, refusal = added(update, args[12])
  if not arguments then
    return refusal
  end
  -- The mark goes into the same command as the counts it vouches for.
  table.insert(arguments, 1, string.format('%d %s', epoch, new))
  table.insert(arguments, 1, mark)
  commit(update, arguments)
  return { 'OK' }
end

-- Finds the bucket of this moment and the sets of it and of the bucket before.
-- Returns a table: `known(digest)` says whether a digest is in either set; `now` is the clock, held
-- at the start of the newest bucket ever seen, because a clock that went back must not reopen a
-- bucket that is gone.
local function open_window(state, even, odd, bucket_s, now)
  local bucket = math.floor(now / bucket_s)
  local stored = redis.call('HMGET', state, 'w:0', 'w:1')
  for parity = 1, 2 do
    bucket = math.max(bucket, tonumber(stored[parity] or '0'))
  end
  local keys = { even, odd }
  local current, previous = bucket % 2, (bucket - 1) % 2
  local window = {
    key = keys[current + 1],
    field = string.format('w:%d', current),
    bucket = string.format('%d', bucket),
    is_new = tonumber(stored[current + 1] or '-1') ~= bucket,
    now = math.max(now, bucket * bucket_s),
    expires_s = math.ceil((bucket + 2) * bucket_s - now),
  }
  local sets = {}
  if not window.is_new then
    sets[1] = window.key
  end
  if tonumber(stored[previous + 1] or '-1') == bucket - 1 then
    sets[#sets + 1] = keys[previous + 1]
  end
  redis.call('SCARD', even) -- keys of another type fail here, before any write
  redis.call('SCARD', odd)
  function window.known(digest)
    for _, set in ipairs(sets) do
      if redis.call('SISMEMBER', set, digest) == 1 then
        return true
      end
    end
    return false
  end
  return window
end

-- What both updates with a window begin with: args 1 to 5 as `begin`, then window_s, bucket_s,
-- oldest, newest and now. The clock that remembers ids also judges age; a client's may be off.
-- Returns the update, the window, and the reply to give to events outside it or nil; or nil and
-- the reply to give.
local function begin_windowed(keys, args)
  local update, refusal = begin(keys, args)
  if not update then
    return nil, refusal
  end
  local now = clock(args[10])
  local window = open_window(update.state, keys[3], keys[4], tonumber(args[7]), now)
  local outside = too_early(args[9], now)
  local cutoff = window.now - tonumber(args[6])
  if args[8] ~= '' and tonumber(args[8]) < cutoff then
    outside = { 'LATE', string.format('%.17g', cutoff) }
  end
  return update, window, outside
end

-- Writes counts and the digests that vouch for them.
local function commit_windowed(update, window, arguments, digests)
  if window.is_new then
    redis.call('UNLINK', window.key) -- what is there belongs to the bucket before last
    table.insert(arguments, 1, window.bucket)
    table.insert(arguments, 1, window.field)
  end
  for first = 1, #digests, MOST_ARGUMENTS do
    redis.call('SADD', window.key, unpack(digests, first, math.min(first + MOST_ARGUMENTS - 1, #digests)))
  end
  redis.call('EXPIRE', window.key, window.expires_s)
  commit(update, arguments)
end

-- apply_batch(keys: state, arms, even, odd; args: version, token, new_token, count, tail, window_s, bucket_s, oldest, newest, now, digest, deltas)
--   -> {OK} | {ALREADY} | {LATE, cutoff} | {EARLY, limit} | {STALE}
--      | {CORRUPT, field} | {OVERFLOW, field} | {INVALID, why}
-- Applies all deltas under one digest, once within the window. `oldest` and `newest` are times of
-- events, `oldest` "" to take any age; `now` is "" for the server's clock.
local function apply_batch(keys, args)
  local digest = args[11]
  local update, window, outside = begin_windowed(keys, args)
  if not update then
    return window
  end
  if window.known(digest) then
    return { 'ALREADY' }
  end
  if outside then
    return outside
  end
  local arguments, refusal = added(update, args[12])
  if not arguments then
    return refusal
  end
  commit_windowed(update, window, arguments, { digest })
  return { 'OK' }
end

-- apply_unique(keys: state, arms, even, odd; args: version, token, new_token, count, tail, window_s, bucket_s, oldest, newest, now, digests, deltas, attempt)
--   -> {OK, applied, duplicate, registered} | {LATE, cutoff} | {EARLY, limit} | {STALE}
--      | {CORRUPT, field} | {OVERFLOW, field} | {INVALID, why}
-- Applies each delta under a digest of its own, once within the window; else as apply_batch.
-- Registers only the new arms that applied deltas name: one of which all events are duplicates was
-- retired since. With the token `new_token`; when `registered` < `count` the slots are not those
-- that the caller chose.
-- `attempt` is 12 random bytes, the same when a call is sent again because its reply was lost: it
-- gets that reply. Its outcome is a digest more in the window: `attempt` and how many it applied.
local function apply_unique(keys, args)
  local digests, deltas, attempt = args[11], args[12], args[13]
  local update, window, outside = begin_windowed(keys, args)
  if not update then
    return window
  end
  local received = #digests / DIGEST_BYTES
  local function reply_of_before()
    for applied = 1, received do
      if window.known(attempt .. struct.pack('<I4', applied)) then
        return { 'OK', tostring(applied), tostring(received - applied), '0' }
      end
    end
  end
  if outside then
    return reply_of_before() or outside
  end
  if received ~= #deltas / DELTA_BYTES then
    return { 'INVALID', 'as many digests as deltas' }
  end
  local fresh, seen, taken = {}, {}, {}
  for i = 1, received do
    local digest = string.sub(digests, (i - 1) * DIGEST_BYTES + 1, i * DIGEST_BYTES)
    if not (seen[digest] or window.known(digest)) then
      seen[digest] = true
      taken[i] = true
      fresh[#fresh + 1] = digest
    end
  end
  local applied, duplicate = #fresh, received - #fresh
  if applied == 0 then
    return reply_of_before() or { 'OK', '0', tostring(duplicate), '0' }
  end
  if update.count > 0 then
    register_only_named(update, deltas, taken)
  end
  local arguments, refusal = added(update, deltas, function(i)
    return taken[i]
  end)
  if not arguments then
    return refusal
  end
  fresh[applied + 1] = attempt .. struct.pack('<I4', applied)
  commit_windowed(update, window, arguments, fresh)
  return { 'OK', tostring(applied), tostring(duplicate), tostring(update.count) }
end

-- All chunks as tables, with their fields; nil and a reply when one is corrupt.
local function all_chunks(state)
  local chunks = {}
  for j = 0, math.ceil(slot_count(state) / SLOTS_PER_CHUNK) - 1 do
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
  local arguments = { 'v', args[3], 't', args[4], 'n', string.format('%d', count) }
  local removed = {}
  for j in pairs(old) do
    removed[#removed + 1] = chunk_field(j)
  end
  local numbers = {}
  for i = 0, count - 1 do
    local slot = struct.unpack('<I4', kept, 4 * i + 1)
    local source = old[math.floor(slot / SLOTS_PER_CHUNK)]
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

-- publish(keys: blob; args: version, body) -> {OK} | {SUPERSEDED, version}
-- Replaces the blob unless a newer one is there. `version` in decimal, microseconds since 1970.
-- One SET. A stored version from the future is damage, or a clock that was wrong: it would stay.
local function publish(keys, args)
  local header = redis.call('GETRANGE', keys[1], 0, 31)
  if #header == 32 and string.sub(header, 1, 4) == 'BCSL' then
    local low, high = struct.unpack('<I4I4', header, 9)
    local stored = high * 4294967296 + low
    local believed = stored <= (server_time() + MOST_AHEAD_S) * 1e6
    if stored > tonumber(args[1]) and believed then
      return { 'SUPERSEDED', string.format('%.0f', stored) }
    end
  end
  redis.call('SET', keys[1], args[2])
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

-- Maintenance: a segment, or the keys of a bandit, as a whole.

-- dump_segment(keys: state, arms, even, odd, blob; args: with_digests)
--   -> {types, server time in ms, expiry of even and of odd in ms, registry, even, odd, field, value, ...}
--      | {CORRUPT, field}
-- Reads one moment; writes nothing. `types` are those of the five keys, between spaces. The sets
-- come as packed digests, or as their sizes in decimal when with_digests is "0". The value of a key
-- of a wrong type is left out; the blob always is.
local function dump_segment(keys, args)
  local types, values = {}, {}
  for i = 1, 5 do
    types[i] = redis.call('TYPE', keys[i]).ok
  end
  for i = 3, 4 do
    values[i] = ''
    if types[i] == 'set' and args[1] == '1' then
      local digests = redis.call('SMEMBERS', keys[i])
      for _, digest in ipairs(digests) do
        if #digest ~= DIGEST_BYTES then
          return corrupt(string.format('w:%d', i - 3))
        end
      end
      values[i] = table.concat(digests)
    elseif types[i] == 'set' then
      values[i] = tostring(redis.call('SCARD', keys[i]))
    end
  end
  local time = redis.call('TIME')
  local reply = {
    table.concat(types, ' '),
    string.format('%s%03d', time[1], math.floor(tonumber(time[2]) / 1000)),
    string.format('%.0f', redis.call('PEXPIRETIME', keys[3])),
    string.format('%.0f', redis.call('PEXPIRETIME', keys[4])),
    types[2] == 'string' and redis.call('GET', keys[2]) or '',
    values[3],
    values[4],
  }
  if types[1] == 'hash' then
    for _, word in ipairs(redis.call('HGETALL', keys[1])) do
      reply[#reply + 1] = word
    end
  end
  return reply
end

-- The strings of a packed list: length u32, bytes, length u32, ... nil when it is cut.
local function unpacked(packed)
  local list, at = {}, 1
  while at <= #packed do
    local length = at + 3 <= #packed and struct.unpack('<I4', packed, at)
    if not length or at + 3 + length > #packed then
      return nil
    end
    list[#list + 1] = string.sub(packed, at + 4, at + 3 + length)
    at = at + 4 + length
  end
  return list
end

-- restore_segment(keys: state, arms, even, odd, blob; args: registry, even_expiry, even, odd_expiry, odd, fields)
--   -> {OK} | {INVALID, why}
-- Puts what dump_segment read in the place of whatever is there; `fields` is a packed list of
-- fields and values. A set whose time is over stays away.
local function restore_segment(keys, args)
  local fields, sets = unpacked(args[6]), {}
  if not fields or #fields % 2 ~= 0 then
    return { 'INVALID', 'fields are cut' }
  end
  for i = 1, 2 do
    sets[i] = { key = keys[i + 2], expires = tonumber(args[2 * i]), digests = args[2 * i + 1] }
    if not sets[i].expires or #sets[i].digests % DIGEST_BYTES ~= 0 then
      return { 'INVALID', 'digests are cut' }
    end
  end
  redis.call('UNLINK', unpack(keys))
  for at = 1, #fields, 2 do
    if fields[at] == 'n' then -- a registry without arms is an empty string
      redis.call('SET', keys[2], args[1])
    end
  end
  for _, set in ipairs(sets) do
    if set.digests ~= '' then
      local digests = {}
      for at = 1, #set.digests, DIGEST_BYTES do
        digests[#digests + 1] = string.sub(set.digests, at, at + DIGEST_BYTES - 1)
        if #digests == MOST_ARGUMENTS or at + DIGEST_BYTES > #set.digests then
          redis.call('SADD', set.key, unpack(digests))
          digests = {}
        end
      end
      if set.expires >= 0 then -- when that time is over, this removes the set
        redis.call('PEXPIREAT', set.key, string.format('%.0f', set.expires))
      end
    end
  end
  write_fields(keys[1], fields)
  return { 'OK' }
end

-- forget_segment(keys: state, arms, even, odd, blob; args: keep_marks)
--   -> {OK} | {CORRUPT, field}
-- Removes a segment. With keep_marks "1" what tells events from their duplicates stays, marks and
-- windows, beside no arms under the next epoch: a writer of before is answered STALE either way.
local function forget_segment(keys, args)
  local state, kept = keys[1], {}
  if args[1] == '1' and redis.call('EXISTS', state) == 1 then
    local version = redis.call('HGET', state, 'v')
    if not version or #version ~= 32 then
      return corrupt('v')
    end
    local epoch = struct.unpack('<I4', version, 5) + 1
    kept = { 'v', string.sub(version, 1, 4) .. struct.pack('<I4', epoch) .. string.sub(version, 9) }
    local words = redis.call('HGETALL', state)
    for i = 1, #words, 2 do
      if string.match(words[i], '^[mw]:') then
        kept[#kept + 1] = words[i]
        kept[#kept + 1] = words[i + 1]
      end
    end
    redis.call('UNLINK', state, keys[2], keys[5])
  else
    redis.call('UNLINK', unpack(keys))
  end
  write_fields(state, kept)
  return { 'OK' }
end

-- begin_import(keys: settings, segments; args: token) -> {OK} | {EXISTS}
-- Closes a bandit without segments, or one whose import has not ended, to all but the import that
-- knows the token: its settings are no numbers, so nobody else can make a segment.
local function begin_import(keys, args)
  if redis.call('SCARD', keys[2]) > 0 and redis.call('HGET', keys[1], 'h') ~= 'importing' then
    return { 'EXISTS' }
  end
  redis.call('UNLINK', keys[1])
  redis.call('HSET', keys[1], 'h', 'importing', 'w', args[1])
  return { 'OK' }
end

-- end_import(keys: settings, segments, checkpoints; args: token, kept, read, paths)
--   -> {OK} | {LOST} | {INVALID, why}
-- Opens it with packed lists of the fields and values of settings and checkpoints, and of the paths
-- of the segments, which are written by then; unless another import has begun.
local function end_import(keys, args)
  local kept, read_to, paths = unpacked(args[2]), unpacked(args[3]), unpacked(args[4])
  if not kept or not read_to or not paths then
    return { 'INVALID', 'a list is cut' }
  end
  local stored = redis.call('HMGET', keys[1], 'h', 'w')
  if stored[1] ~= 'importing' or stored[2] ~= args[1] then
    return { 'LOST' }
  end
  redis.call('SCARD', keys[2]) -- a key of another type fails here, before any write
  redis.call('UNLINK', keys[1], keys[3])
  write_fields(keys[1], kept)
  write_fields(keys[3], read_to)
  for at = 1, #paths, MOST_ARGUMENTS do
    redis.call('SADD', keys[2], unpack(paths, at, math.min(at + MOST_ARGUMENTS - 1, #paths)))
  end
  return { 'OK' }
end

-- forget_bandit(keys: settings, segments, checkpoints) -> {OK} | {EXISTS}
-- Removes what exists once a bandit, unless its index has segments.
local function forget_bandit(keys)
  if redis.call('SCARD', keys[2]) > 0 then
    return { 'EXISTS' }
  end
  redis.call('UNLINK', unpack(keys))
  return { 'OK' }
end

redis.register_function({ function_name = '@LIBRARY@_read', callback = read, flags = { 'no-writes' } })
redis.register_function('@LIBRARY@_open_segment', open_segment)
redis.register_function('@LIBRARY@_add_arms', add_arms)
redis.register_function('@LIBRARY@_apply', apply)
redis.register_function('@LIBRARY@_apply_batch', apply_batch)
redis.register_function('@LIBRARY@_apply_unique', apply_unique)
redis.register_function('@LIBRARY@_rescale', rescale)
redis.register_function('@LIBRARY@_compact', compact)
redis.register_function('@LIBRARY@_publish', publish)
redis.register_function('@LIBRARY@_agree', agree)
redis.register_function({ function_name = '@LIBRARY@_dump_segment', callback = dump_segment, flags = { 'no-writes' } })
redis.register_function('@LIBRARY@_restore_segment', restore_segment)
redis.register_function({ function_name = '@LIBRARY@_forget_segment', callback = forget_segment, flags = { 'allow-oom' } })
redis.register_function('@LIBRARY@_begin_import', begin_import)
redis.register_function('@LIBRARY@_end_import', end_import)
redis.register_function({ function_name = '@LIBRARY@_forget_bandit', callback = forget_bandit, flags = { 'allow-oom' } })

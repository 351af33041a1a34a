#!lua name=@LIBRARY@
-- Adds events to a segment, each once, and registers arms: server-side functions.

-- @PRELUDE@

local DELTA_BYTES = 20 -- u32 slot, f64 trials, f64 successes

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

-- What every update begins with: version, token, new_token, count and tail, the first five of its
-- arguments. The last three register arms in the same step: `count` ids, stored as `tail`.
-- Returns the update, or nil and the reply to give.
local function begin(keys, args)
  local state, arms = keys[1], keys[2]
  redis.call('STRLEN', arms) -- a key of another type fails here, before any write
  if is_stale(state, args[1], args[2]) then
    return nil, { 'STALE' }
  end
  local count, slots = tonumber(args[4]), slot_count(state)
  if not slots then
    return nil, corrupt('n')
  end
  return {
    state = state,
    arms = arms,
    count = count,
    slots = slots + count,
    token = args[2],
    new_token = args[3],
    tail = args[5],
    renumbered = {}, -- slot that the caller chose for a new arm -> the one it gets
  }
end

-- Of the arms that an update would register, keeps those that taken deltas name. Returns the reply to
-- give when the registry is damaged, which a new seal would vouch for; else nil.
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
  if #kept < update.count then
    update.count, update.slots, update.tail = #kept, first + #kept, table.concat(kept)
    local registry = redis.call('GETRANGE', update.arms, 0, -1)
    if seal_of(registry) ~= string.sub(update.token, TOKEN_BYTES + 1) and update.token ~= '' then
      return corrupt('registry')
    end
    update.new_token = string.sub(update.new_token, 1, TOKEN_BYTES) .. seal_of(registry .. update.tail)
  end
end

-- Writes the fields of an update with the arms that it registers.
local function commit(update, arguments)
  if update.count > 0 then
    -- APPEND reserves as much again; BITOP takes what it needs. Its first call changes nothing, so a
    -- user who may not call it is told before the registry grows. No key but declared ones: in a slot
    -- that moves, a script that touches another fails midway.
    redis.call('BITOP', 'OR', update.arms, update.arms)
    redis.call('APPEND', update.arms, update.tail)
    redis.call('BITOP', 'OR', update.arms, update.arms)
    for _, word in ipairs({ 'n', written_slot_count(update.slots), 't', update.new_token }) do
      arguments[#arguments + 1] = word
    end
  end
  write_fields(update.state, arguments)
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
    local first, rest = string.match(unsealed(raw) or '', '^(%d+) (.*)$')
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
  table.insert(arguments, 1, sealed(string.format('%d %s', epoch, new)))
  table.insert(arguments, 1, mark)
  commit(update, arguments)
  return { 'OK' }
end

-- Finds the bucket of this moment and the sets of it and of the bucket before.
-- Returns a table: `known(digest)` says whether a digest is in either set; `now` is the clock, held
-- at the start of the newest bucket ever seen, because a clock that went back must not reopen a
-- bucket that is gone. Or nil and the reply to give.
local function open_window(state, even, odd, bucket_s, now)
  local bucket = math.floor(now / bucket_s)
  local raw, stored = redis.call('HMGET', state, 'w:0', 'w:1'), {}
  for parity = 1, 2 do
    stored[parity] = tonumber(not raw[parity] and '-1' or unsealed(raw[parity]))
    if not stored[parity] then
      return nil, corrupt(string.format('w:%d', parity - 1))
    end
    bucket = math.max(bucket, stored[parity])
  end
  local keys = { even, odd }
  local current, previous = bucket % 2, (bucket - 1) % 2
  local window = {
    key = keys[current + 1],
    field = string.format('w:%d', current),
    bucket = sealed(string.format('%d', bucket)),
    is_new = stored[current + 1] ~= bucket,
    now = math.max(now, bucket * bucket_s),
    expires_s = math.ceil((bucket + 2) * bucket_s - now),
  }
  local sets = {}
  if not window.is_new then
    sets[1] = window.key
  end
  if stored[previous + 1] == bucket - 1 then
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
  local now, window = clock(args[10]), nil
  window, refusal = open_window(update.state, keys[3], keys[4], tonumber(args[7]), now)
  if not window then
    return nil, refusal
  end
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
  local refusal = update.count > 0 and register_only_named(update, deltas, taken)
  if refusal then
    return refusal
  end
  local arguments
  arguments, refusal = added(update, deltas, function(i)
    return taken[i]
  end)
  if not arguments then
    return refusal
  end
  fresh[applied + 1] = attempt .. struct.pack('<I4', applied)
  commit_windowed(update, window, arguments, fresh)
  return { 'OK', tostring(applied), tostring(duplicate), tostring(update.count) }
end

redis.register_function('@LIBRARY@_add_arms', add_arms)
redis.register_function('@LIBRARY@_apply', apply)
redis.register_function('@LIBRARY@_apply_batch', apply_batch)
redis.register_function('@LIBRARY@_apply_unique', apply_unique)

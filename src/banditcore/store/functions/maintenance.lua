#!lua name=@LIBRARY@
-- A segment, or the keys of a bandit, as a whole: server-side functions for maintenance.

-- @PRELUDE@

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
    local version = unsealed(redis.call('HGET', state, 'v') or '')
    if not version or #version ~= 32 then
      return corrupt('v')
    end
    local epoch = struct.pack('<I4', struct.unpack('<I4', version, 5) + 1)
    kept = { 'v', sealed(string.sub(version, 1, 4) .. epoch .. string.sub(version, 9)) }
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

-- begin_import(keys: settings, segments; args: token, paths, bandit)
--   -> {OK, left} | {EXISTS} | {CORRUPT, field} | {INVALID, why}
-- Closes a bandit without segments, or one whose import has not ended, to all but the import that
-- knows the token: its settings are no numbers, so nobody else can make a segment. `paths` is the
-- packed list of the segments it will write, kept as field s, by which `forget` finds them; `bandit` its
-- name, kept as field b, by which `verify` does, as no index has it yet. `left` are the segments that
-- imports which have not ended may have written besides.
local function begin_import(keys, args)
  local unfinished = redis.call('HGET', keys[1], 'h') == 'importing'
  if redis.call('SCARD', keys[2]) > 0 and not unfinished then
    return { 'EXISTS' }
  end
  local paths = unpacked(args[2])
  local before = unpacked(unfinished and redis.call('HGET', keys[1], 's') or '')
  if not paths or not before then
    return not paths and { 'INVALID', 'a list is cut' } or corrupt('s')
  end
  local written, left = {}, {}
  for _, path in ipairs(paths) do
    written[path] = true
  end
  for _, path in ipairs(before) do
    if not written[path] then
      left[#left + 1] = struct.pack('<I4', #path) .. path
    end
  end
  left = table.concat(left)
  redis.call('UNLINK', keys[1])
  redis.call('HSET', keys[1], 'h', 'importing', 'w', args[1], 's', args[2] .. left, 'b', args[3])
  return { 'OK', left }
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

redis.register_function({ function_name = '@LIBRARY@_dump_segment', callback = dump_segment, flags = { 'no-writes' } })
redis.register_function('@LIBRARY@_restore_segment', restore_segment)
redis.register_function({ function_name = '@LIBRARY@_forget_segment', callback = forget_segment, flags = { 'allow-oom' } })
redis.register_function('@LIBRARY@_begin_import', begin_import)
redis.register_function('@LIBRARY@_end_import', end_import)
redis.register_function({ function_name = '@LIBRARY@_forget_bandit', callback = forget_bandit, flags = { 'allow-oom' } })

-- What the libraries share; `library.py` puts it into each.
--
-- Atomicity: a function runs alone. Each one first reads and checks everything, then writes;
-- nothing after the first write can fail. The server refuses to start a writing function when
-- memory is full. Replies are words, so that a client can not mistake one for a count.
--
-- Keys, all with one hash tag (see keys.py):
--   state   hash  v       version: schema u16, 0 u16, epoch u32, landmark f64, half-life f64,
--                         window f64. Compared as a whole: a caller that holds another version
--                         is answered STALE and changes nothing.
--                 t       token of the registry: 12 random bytes, new with every change of it, and
--                         the seal of the registry, by which a reader finds it undamaged. A writer
--                         that holds another token is answered STALE, so that a registry which went
--                         back in time with a failover never puts counts on the wrong arm.
--                 n       number of arm slots, decimal
--                 c:<j>   counts of slots 128 j .. 128 j + 127: f64 trials, f64 successes each,
--                         little-endian; short when the last slots have no counts yet
--                 m:...   mark of a source's partition: "<epoch> <offset>"
--                 w:<p>   window bucket that the set of parity p belongs to, decimal
--                 Each but t is sealed: ends in the first 8 hex digits of the SHA-1 of what is before.
--   arms    string, for each slot: length - 1 as u8, then the id
--   even, odd   sets of 16-byte digests, for window buckets of even and odd number
--   blob    string, a published snapshot: 32-byte header, version u64 at offset 8
-- and one of a bandit:
--   settings  hash  h, w: half-life and window in seconds, decimal; 0 is no half-life. During an import
--                   "importing", its token, and s, the packed list of its segments

local SLOTS_PER_CHUNK = 128
local SLOT_BYTES = 16
local DIGEST_BYTES = 16
local SEAL_DIGITS = 8
local TOKEN_BYTES = 12 -- of a token, without what vouches for the registry
local MOST_ARGUMENTS = 1000 -- unpack() and the stack of C calls have limits
local MOST_AHEAD_S = 3600 -- events.MAX_AHEAD_S: nothing later than the clock by more is believed

local function corrupt(what)
  return { 'CORRUPT', what }
end

local function seal_of(value)
  return string.sub(redis.sha1hex(value), 1, SEAL_DIGITS)
end

-- A value as it is stored, with what tells it from a damaged one.
local function sealed(value)
  return value .. seal_of(value)
end

-- The value, or nil when what is stored is damaged.
local function unsealed(raw)
  local value = string.sub(raw, 1, -SEAL_DIGITS - 1)
  return string.sub(raw, -SEAL_DIGITS) == seal_of(value) and value or nil
end

local chunk_formats = {}
local function chunk_format(numbers)
  local format = chunk_formats[numbers]
  if not format then
    format = '<' .. string.rep('d', numbers)
    chunk_formats[numbers] = format
  end
  return format
end

-- The numbers of one chunk as a table, or nil when it is damaged.
local function read_chunk(stored)
  if not stored then
    return {}
  end
  local raw = unsealed(stored)
  if not raw or #raw % SLOT_BYTES ~= 0 or #raw > SLOTS_PER_CHUNK * SLOT_BYTES then
    return nil
  end
  local numbers = { struct.unpack(chunk_format(#raw / 8), raw) }
  numbers[#numbers] = nil -- struct.unpack also returns the position after the last number
  return numbers
end

local function write_chunk(numbers)
  return sealed(struct.pack(chunk_format(#numbers), unpack(numbers)))
end

local function chunk_field(chunk)
  return string.format('c:%d', chunk)
end

-- How many slots there are; nil when that is damaged.
local function slot_count(state)
  local stored = redis.call('HGET', state, 'n')
  return tonumber(not stored and '0' or unsealed(stored))
end

local function written_slot_count(slots)
  return sealed(string.format('%d', slots))
end

local function is_finite(number)
  return number == number and number ~= math.huge and number ~= -math.huge
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

-- The reply to an update whose newest event is ahead of the clock, else nil. One such event could
-- move the landmark so far that all evidence before it fades to nothing.
local function too_early(newest, now)
  local limit = now + MOST_AHEAD_S
  if newest ~= '' and tonumber(newest) > limit then
    return { 'EARLY', string.format('%.17g', limit) }
  end
end

local function is_stale(state, version, token)
  local stored = redis.call('HMGET', state, 'v', 't')
  return stored[1] ~= version or (stored[2] or '') ~= token
end

#!lua flags=allow-cross-slot-keys
-- Charges counters: the arithmetic of ratelimit/algorithms.py, on doubles, times in whole microseconds.
--
-- KEYS     the counter of each charge; where they are of several slots, they stand from ARGV[3] on instead.
-- ARGV[1]  three doubles: now, or -1 for the server's own time; milliseconds of jitter; a random part of 1.
-- ARGV[2]  a record of 35 bytes for each charge: algorithm (0 fixed window, 1 sliding window, 2 token bucket; 8 more
--          where hits that do not fit are counted too, as they always are in a fixed window), window, limit, burst, how many charges from here on are made all or none (0: this one by itself), hits.
-- Returns  a record of 33 bytes for each charge: admitted, remaining, over, reset, retry. Then a line for each charge
--          that failed: its number, and what the server said.
--
-- Every counter is read once and written once, if at all: a look and a refusal write nothing.

local MOST_USED, LONGEST = 9007199254740992, 4503599627370496
local STATE, CHARGE, TALLY = '<ddd', '<BdddHd', '<Bi8i8i8i8'
local floor, ceil, max, min = math.floor, math.ceil, math.max, math.min
local pack, unpack_from = struct.pack, struct.unpack

local now, jitter, part = unpack_from('<ddd', ARGV[1])
if now < 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local keys = KEYS
if #keys == 0 then
  keys = {}
  for i = 3, #ARGV do keys[i - 2] = ARGV[i] end
end

local function start_of(moment, window)
  local start = now - now % window
  if moment and start < moment and moment <= start + window then return moment end
  return start
end

local function take(used, faded, hits, limit, always)
  if hits < 0 then return true, 0, max(used + hits, 0) end
  local admitted = used + faded + hits <= limit
  if admitted or always then used = min(used + hits, MOST_USED) end
  return admitted, admitted and 0 or hits, used
end

local function fixed_window(moment, used, before, window, limit, burst, hits, always)
  local start = start_of(moment, window)
  if moment ~= start then used = 0 end
  local after = min(max(used + hits, 0), MOST_USED)
  local admitted = after <= limit or hits < 0
  local over = hits
  if always or admitted then
    over = hits > 0 and min(max(after - limit, 0), hits) or 0
    used = after
  end
  local reset, left = start + window - now, max(floor(limit - used), 0)
  return start, used, 0, admitted, left, over, reset, left > 0 and 0 or reset
end

local function until_room(used, before, started, window, limit)
  local room = limit - 1
  if room < 0 then return started + window end
  if used <= room and before > 0 then
    return max(started + ceil(window * (1 - (room - used) / before)), 1)
  end
  return max(started + window + (used > room and ceil(window * (1 - room / used)) or 0), 1)
end

local function sliding_window(moment, used, before, window, limit, burst, hits, always)
  local start = start_of(moment, window)
  if moment ~= start then
    before = moment == start - window and used or 0
    used = 0
  end
  local faded = before * ((window - max(now - start, 0)) / window)
  local admitted, over
  admitted, over, used = take(used, faded, hits, limit, always)
  local left = limit - (faded + used)
  local reset = 0
  if used > 0 then
    reset = start + 2 * window - now
  elseif before > 0 then
    reset = start + window - now
  end
  local retry = left >= 1 and 0 or until_room(used, before, start - now, window, limit)
  return start, used, before, admitted, max(floor(left), 0), over, reset, retry
end

local function token_bucket(moment, used, before, window, limit, burst, hits, always)
  local missing, since = used, now
  if moment then
    if 0 < moment - now and moment - now <= window then since = moment end
    missing = max(missing - max(since - moment, 0) * limit / window, 0)
  end
  local admitted, over
  admitted, over, missing = take(missing, 0, hits, burst, always)
  local left = burst - missing
  local reset, retry = window, window
  if limit > 0 then
    reset = min(ceil(missing * window / limit), LONGEST) + since - now
    retry = min(ceil((missing + 1 - burst) * window / limit), LONGEST) + since - now
  end
  return since, missing, 0, admitted, max(floor(left), 0), over, reset, left >= 1 and 0 or retry
end

local COUNT = {[0] = fixed_window, [1] = sliding_window, [2] = token_bucket}

-- What is known of each key: what its counter holds, what it will hold, and what the server said when it would not.
local moments, useds, befores, resets = {}, {}, {}, {}
local existed, changed, failed, order = {}, {}, {}, {}

local function read(key)
  local value = redis.pcall('GET', key)
  existed[key], useds[key], befores[key] = false, 0, 0
  if not value then return end
  if type(value) == 'table' then
    failed[key] = value.err
    return
  end
  local moment, used, before
  if #value == 24 then moment, used, before = unpack_from(STATE, value) end
  if moment and moment - moment == 0 and used >= 0 and used <= MOST_USED and before >= 0 and before <= MOST_USED then
    existed[key], moments[key], useds[key], befores[key] = true, moment, used, before
  else
    failed[key] = 'NONSENSE is no state of a counter'
  end
end

local tallies = {}

local function count(i, key, algorithm, window, limit, burst, hits, always, keeps)
  local moment, used, before, admitted, remaining, over, reset, retry =
    COUNT[algorithm % 8](moments[key], useds[key], befores[key], window, limit, burst, hits, always)
  if keeps and hits ~= 0 and (admitted or always) and (moments[key] or used > 0) then
    moments[key], useds[key], befores[key], resets[key] = moment, used, before, reset
    if not changed[key] then
      changed[key] = true
      order[#order + 1] = key
    end
  end
  tallies[i] = pack(TALLY, admitted and 1 or 0, remaining, over, reset, retry)
  return admitted
end

-- Charges those from `first` to `last` if all of them fit; else they tell what is left without the charge.
local function together(first, last, charges)
  local kept = {}
  for i = first, last do
    local key = keys[i]
    if failed[key] then return end
    kept[key] = {moments[key], useds[key], befores[key], resets[key], changed[key]}
  end
  local written, admitted = #order, {}
  local all = true
  for i = first, last do
    local one = charges[i]
    admitted[i] = count(i, keys[i], one[1], one[2], one[3], one[4], one[6], false, true)
    all = all and admitted[i]
  end
  if all then return end
  for key, was in pairs(kept) do
    moments[key], useds[key], befores[key], resets[key], changed[key] = was[1], was[2], was[3], was[4], was[5]
  end
  for i = #order, written + 1, -1 do order[i] = nil end
  for i = first, last do
    local one = charges[i]
    if admitted[i] then count(i, keys[i], one[1], one[2], one[3], one[4], 0, false, false) end
  end
end

for i = 1, #keys do
  local key = keys[i]
  if existed[key] == nil then read(key) end
end

local position, i = 1, 1
while i <= #keys do
  local algorithm, window, limit, burst, size, hits
  algorithm, window, limit, burst, size, hits, position = unpack_from(CHARGE, ARGV[2], position)
  if size == 0 then
    local key = keys[i]
    if not failed[key] then count(i, key, algorithm, window, limit, burst, hits, algorithm % 8 == 0 or algorithm >= 8, true) end
    i = i + 1
  else
    local charges = {[i] = {algorithm, window, limit, burst, size, hits}}
    for j = i + 1, i + size - 1 do
      local one = {unpack_from(CHARGE, ARGV[2], position)}
      charges[j], position = one, one[7]
    end
    together(i, i + size - 1, charges)
    i = i + size
  end
end

for number, key in ipairs(order) do
  local answer
  if resets[key] > 0 then
    local late = floor(jitter * (1 + (part + number * 0.6180339887498949) % 1) / 2)
    local milliseconds = min(ceil(resets[key] / 1000), LONGEST / 1024) + late
    local state = pack(STATE, moments[key], useds[key], befores[key])
    answer = redis.pcall('SET', key, state, 'PX', max(milliseconds, 1))
  elseif existed[key] then
    answer = redis.pcall('DEL', key)
  end
  if type(answer) == 'table' and answer.err then failed[key] = answer.err end
end

local faults = {}
if next(failed) then
  for i = 1, #keys do
    local fault = failed[keys[i]] or not tallies[i] and 'NONE another one of those made together failed'
    if fault then
      tallies[i] = pack(TALLY, 255, 0, 0, 0, 0)
      faults[#faults + 1] = string.format('%d %s\n', i - 1, (string.gsub(fault, '[\r\n]', ' ')))
    end
  end
end
return table.concat(tallies) .. table.concat(faults)

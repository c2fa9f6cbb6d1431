-- The account of one user or key, as in crates/quota/src/model/account.rs.
--
-- An account is a string of doubles. The first five belong to no day: streams open; and of the token bucket its units,
-- when it was filled in ms, its capacity, and the seconds to refill. Six follow for each of its days (the newest
-- few, the newest first): the day as a number (20261128), tokens used, tokens reserved, tokens that running calls are
-- expected to use beyond those, requests, open leases. The gateway caps numbers at 2^53, up to which doubles are
-- exact.
--
-- A call belongs to one day. A script decodes the head and that day, and writes only those: nearly always the first
-- 88 bytes.

local USED, RESERVED, EXPECTED, REQUESTS, OPEN = 1, 2, 3, 4, 5
local STREAMS, UNITS, FILLED_AT, CAPACITY, SECONDS = 6, 7, 8, 9, 10

local HEAD, DAY, HEAD_AND_DAY = '<ddddd', '<dddddd', '<ddddddddddd'
local DAY_BYTES = 48
-- Where the newest day begins, counted from 1.
local NEWEST = 41

-- One more than the ledger may report when accounts are rebuilt from it.
local KEPT_DAYS = 5
-- Set with the first call of a day, so that others need not. Calls of that day may follow for a day, and five days
-- later no day of the account is queried any more.
local ACCOUNT_MS = 7 * 24 * 60 * 60 * 1000

local max, min, floor, ceil = math.max, math.min, math.floor, math.ceil
local encode, decode = struct.pack, struct.unpack

-- Returns the account that an earlier version of the gateway stored as a hash, or '' if there is none. Its fields are
-- those of the days (`2026-11-28:u`) and of the bucket. Such accounts expire a week after those gateways last wrote them.
local function old_account(key)
    local flat = redis.call('HGETALL', key)
    if #flat == 0 then
        return ''
    end
    local found, days = {}, {}
    for place = 1, #flat, 2 do
        found[flat[place]] = tonumber(flat[place + 1])
        days[#days + 1] = string.match(flat[place], '^(.+):q$')
    end
    table.sort(days, function(a, b) return a > b end)
    local function numbers(prefix, names)
        for place, name in ipairs(names) do
            names[place] = found[prefix .. name] or 0
        end
        return unpack(names)
    end
    local parts = { encode(HEAD, numbers('', { 's', 'bu', 'bt', 'bc', 'bs' })) }
    for place, day in ipairs(days) do
        local number = tonumber((string.gsub(day, '-', '')))
        parts[place + 1] = encode(DAY, number, numbers(day .. ':', { 'u', 'r', 'e', 'q', 'o' }))
    end
    return table.concat(parts)
end

-- Decodes an account for a day. `text` is the value of its key, or false if that is no string.
local function decode_account(key, text, day)
    local is_packed = text and true
    text = text or old_account(key)
    if text == '' then
        return { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, key = key, text = encode(HEAD, 0, 0, 0, 0, 0), day = day, at = NEWEST }
    end
    local streams, units, filled_at, capacity, seconds, this, used, reserved, expected, requests, open =
        decode(HEAD_AND_DAY, text)
    local at = NEWEST
    while this > day and at + DAY_BYTES < #text do
        at = at + DAY_BYTES
        this, used, reserved, expected, requests, open = decode(DAY, text, at)
    end
    if this == day then
        return {
            used, reserved, expected, requests, open, streams, units, filled_at, capacity, seconds,
            key = key, text = text, day = day, at = at, has_day = true, is_packed = is_packed
        }
    end
    if this > day then
        at = at + DAY_BYTES
    end
    return { 0, 0, 0, 0, 0, streams, units, filled_at, capacity, seconds, key = key, text = text, day = day, at = at }
end

-- Reads an account for a day.
local function load(key, day)
    return decode_account(key, redis.call('MGET', key)[1], day)
end

-- A bucket that was never used has no time.
local function has_bucket(account)
    return account[FILLED_AT] > 0
end

-- Encodes the account, without days that are too old: they have no reservation, and are not the day of the call.
local function encode_account(account)
    local text, at, day = account.text, account.at, account.day
    text = encode(HEAD, unpack(account, STREAMS, SECONDS)) .. string.sub(text, NEWEST, at - 1)
        .. encode(DAY, day, unpack(account, USED, OPEN)) .. string.sub(text, account.has_day and at + DAY_BYTES or at)
    local old = NEWEST + KEPT_DAYS * DAY_BYTES
    local parts = { string.sub(text, 1, old - 1) }
    for start = old, #text, DAY_BYTES do
        local this, _, reserved, expected = decode(DAY, text, start)
        if this == day or reserved + expected > 0 then
            parts[#parts + 1] = string.sub(text, start, start + DAY_BYTES - 1)
        end
    end
    return table.concat(parts)
end

-- Writes the account. Returns true if it did not have the day.
local function save(account)
    local key, at = account.key, account.at
    if not account.is_packed or not account.has_day then
        redis.call('SET', key, encode_account(account), 'PX', ACCOUNT_MS)
    elseif at == NEWEST then
        local used, reserved, expected, requests, open, streams, units, filled_at, capacity, seconds = unpack(account)
        redis.call('SETRANGE', key, 0, encode(HEAD_AND_DAY, streams, units, filled_at, capacity, seconds,
            account.day, used, reserved, expected, requests, open))
    else
        redis.call('SETRANGE', key, 0, encode(HEAD, unpack(account, STREAMS, SECONDS)))
        redis.call('SETRANGE', key, at - 1, encode(DAY, account.day, unpack(account, USED, OPEN)))
    end
    return not account.has_day
end

-- Saves the accounts of a call, and adds them to the accounts of the day if they are new to it.
local function save_both(user, key, accounts_of_day)
    local is_new = save(user)
    if save(key) or is_new then
        redis.call('SADD', accounts_of_day, user.key, key.key)
        redis.call('PEXPIRE', accounts_of_day, ACCOUNT_MS)
    end
end

-- The numbers of one user or key, as crates/quota/src/model/mod.rs keeps them.
--
-- An account is a hash. For each of its days (the newest few): `DAY:u` tokens used, `DAY:r` tokens
-- reserved, `DAY:e` tokens that running calls are likely to take beyond those, `DAY:q` requests,
-- `DAY:o` open leases. `s` streams open. The token bucket: `bu` units, `bt` when, in ms, `bc`
-- capacity, `bs` seconds to refill. Numbers stay below 2^53, where Lua's are exact; the gateway sees
-- to that.
--
-- A call belongs to one day. A script loads only the fields of that day, the first so many of those
-- below, and writes only what has changed.

local USED, RESERVED, EXPECTED, REQUESTS, OPEN = 1, 2, 3, 4, 5
local STREAMS, UNITS, FILLED_AT, CAPACITY, SECONDS = 6, 7, 8, 9, 10
local OF_DAY, WITH_STREAMS, ALL = 5, 6, 10

-- As many as the ledger may report when counters are built from it, and one more.
local KEPT_DAYS = 5
-- Set when a day begins, so that no call has to. Calls of that day may follow for a day, and five days
-- later no day of the account can still be asked for.
local ACCOUNT_MS = 7 * 24 * 60 * 60 * 1000

local max, min, floor, ceil = math.max, math.min, math.floor, math.ceil

local function fields(day)
    return {
        day .. ':u', day .. ':r', day .. ':e', day .. ':q', day .. ':o', 's', 'bu', 'bt', 'bc', 'bs'
    }
end

-- `names` are the fields of a day, of which the first `count` are loaded.
local function load(key, names, count)
    local before = redis.call('HMGET', key, unpack(names, 1, count))
    local account = { key = key, names = names, before = before, has_day = before[REQUESTS] }
    for place = 1, count do
        local number = tonumber(before[place]) or 0
        before[place], account[place] = number, number
    end
    return account
end

-- A window that can admit a call has a time; without one the bucket was never touched.
local function has_bucket(account)
    return account[FILLED_AT] > 0
end

local function forget_old_days(key)
    local days = {}
    for _, field in ipairs(redis.call('HKEYS', key)) do
        local day = string.match(field, '^(.+):q$')
        if day then
            days[#days + 1] = day
        end
    end
    table.sort(days, function(a, b) return a > b end)
    for place = KEPT_DAYS, #days do
        local day = days[place]
        local held = redis.call('HMGET', key, day .. ':r', day .. ':e')
        if whole(held[1]) + whole(held[2]) == 0 then
            redis.call('HDEL', key, unpack(fields(day), 1, OF_DAY))
        end
    end
end

-- Writes what has changed. Returns true if the account did not have the day.
local function save(account)
    local names, before, has_day = account.names, account.before, account.has_day
    local changes, length = {}, 0
    for place = 1, #before do
        local number = account[place]
        if number ~= before[place] or place == REQUESTS and not has_day then
            changes[length + 1], changes[length + 2] = names[place], number
            length = length + 2
        end
    end
    if not has_day then
        forget_old_days(account.key)
    end
    if length > 0 then
        redis.call('HSET', account.key, unpack(changes))
    end
    if not has_day then
        redis.call('PEXPIRE', account.key, ACCOUNT_MS)
    end
    return not has_day
end

-- Saves the accounts of a call, and lists them among those of the day when they are new to it.
local function save_both(user, key, accounts_of_day)
    local is_new = save(user)
    if save(key) or is_new then
        redis.call('SADD', accounts_of_day, user.key, key.key)
        redis.call('PEXPIRE', accounts_of_day, ACCOUNT_MS)
    end
end

-- The account of one user or key, as in crates/quota/src/model/account.rs.
--
-- An account is a hash. For each of its days (the newest few): `DAY:u` tokens used, `DAY:r` tokens
-- reserved, `DAY:e` tokens that running calls are expected to use beyond those, `DAY:q` requests,
-- `DAY:o` open leases. `s` streams open. The token bucket: `bu` units, `bt` when, in ms, `bc`
-- capacity, `bs` seconds to refill. The gateway caps numbers at 2^53, up to which
-- Lua's are exact.
--
-- A call belongs to one day. A script loads only the fields of that day, a prefix of those below, and writes
-- only what has changed.

local USED, RESERVED, EXPECTED, REQUESTS, OPEN = 1, 2, 3, 4, 5
local STREAMS, UNITS, FILLED_AT, CAPACITY, SECONDS = 6, 7, 8, 9, 10
local OF_DAY, WITH_STREAMS, ALL = 5, 6, 10

-- One more than the ledger may report when accounts are rebuilt from it.
local KEPT_DAYS = 5
-- Set with the first call of a day, so that others need not. Calls of that day may follow for a day, and five days
-- later no day of the account is queried any more.
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

-- A bucket that was never used has no time.
local function has_bucket(account)
    return account[FILLED_AT] > 0
end

local function delete_old_days(key)
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
        local reserved = redis.call('HMGET', key, day .. ':r', day .. ':e')
        if whole(reserved[1]) + whole(reserved[2]) == 0 then
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
        delete_old_days(account.key)
    end
    if length > 0 then
        redis.call('HSET', account.key, unpack(changes))
    end
    if not has_day then
        redis.call('PEXPIRE', account.key, ACCOUNT_MS)
    end
    return not has_day
end

-- Saves the accounts of a call, and adds them to the accounts of the day if they are new to it.
local function save_both(user, key, accounts_of_day)
    local is_new = save(user)
    if save(key) or is_new then
        redis.call('SADD', accounts_of_day, user.key, key.key)
        redis.call('PEXPIRE', accounts_of_day, ACCOUNT_MS)
    end
end

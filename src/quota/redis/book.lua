-- The numbers of one user or key, as src/quota/book.rs keeps them. Stands before every script.
--
-- An account is a hash. For each of its days (the newest few): `DAY:u` tokens used, `DAY:r` tokens
-- reserved, `DAY:e` tokens that running calls are likely to take beyond those, `DAY:q` requests,
-- `DAY:o` open leases. `s` streams open. The token bucket: `bu` units,
-- `bt` when, in ms, `bc` capacity, `bs` seconds to refill. Numbers stay below 2^53, where Lua's are
-- exact; the gateway sees to that.

-- As many as the ledger may tell of when counters are built from it, and one more.
local KEPT_DAYS = 5
-- An account without calls for this long has no day that could still be asked for.
local ACCOUNT_MS = 5 * 24 * 60 * 60 * 1000

local function whole(text)
    return tonumber(text) or 0
end

local function digits(number)
    return string.format('%.0f', number)
end

-- Redis' own time, unless the caller brings one.
local function clock(given)
    if given ~= '' then
        return tonumber(given)
    end
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function load(key)
    local account = { key = key, changed = {} }
    local flat = redis.call('HGETALL', key)
    for i = 1, #flat, 2 do
        account[flat[i]] = flat[i + 1]
    end
    return account
end

local function get(account, field)
    return whole(account[field])
end

local function set(account, field, number)
    account[field] = digits(number)
    account.changed[field] = account[field]
end

local function save(account)
    local flat = {}
    for field, text in pairs(account.changed) do
        flat[#flat + 1] = field
        flat[#flat + 1] = text
    end
    if #flat > 0 then
        redis.call('HSET', account.key, unpack(flat))
        redis.call('PEXPIRE', account.key, ACCOUNT_MS)
    end
end

local function forget_old_days(account)
    local days = {}
    for field in pairs(account) do
        local day = string.match(field, '^(.+):q$')
        if day then
            days[#days + 1] = day
        end
    end
    if #days < KEPT_DAYS then
        return
    end
    table.sort(days, function(a, b) return a > b end)
    for place, day in ipairs(days) do
        local held = get(account, day .. ':r') + get(account, day .. ':e')
        if place >= KEPT_DAYS and held == 0 then
            for _, part in ipairs({ ':u', ':r', ':e', ':q', ':o' }) do
                account[day .. part] = nil
                account.changed[day .. part] = nil
                redis.call('HDEL', account.key, day .. part)
            end
        end
    end
end

-- Makes sure that the account has the day.
local function begin_day(account, day)
    if account[day .. ':q'] then
        return
    end
    forget_old_days(account)
    for _, part in ipairs({ ':u', ':r', ':q' }) do
        set(account, day .. part, 0)
    end
end

local function add(account, day, part, number)
    begin_day(account, day)
    set(account, day .. part, math.max(get(account, day .. part) + number, 0))
end

local function taken(account, day)
    return get(account, day .. ':u') + get(account, day .. ':r')
end

-- What is used once every running call has taken what is expected of it.
local function exposed(account, day)
    return taken(account, day) + get(account, day .. ':e')
end

-- Notes that a call has so many more tokens ahead of it than it holds.
local function expect(account, day, number)
    if number ~= 0 then
        set(account, day .. ':e', math.max(get(account, day .. ':e') + number, 0))
    end
end

-- A request costs `cost` units of a bucket, and each millisecond adds `capacity` of them.
local function bucket_cost(bucket)
    return bucket.seconds * 1000
end

local function bucket_brim(bucket)
    return bucket_cost(bucket) * bucket.capacity
end

local function stored_bucket(account)
    if not account.bu then
        return nil
    end
    return {
        units = get(account, 'bu'),
        at = get(account, 'bt'),
        capacity = get(account, 'bc'),
        seconds = get(account, 'bs'),
    }
end

-- As full, in proportion, under another window: a plan change is no refill.
local function resize(bucket, capacity, seconds)
    if bucket.capacity == capacity and bucket.seconds == seconds then
        return
    end
    local before = math.max(bucket_brim(bucket), 1)
    bucket.capacity = capacity
    bucket.seconds = seconds
    local brim = bucket_brim(bucket)
    bucket.units = math.min(math.floor(bucket.units * brim / before), brim)
end

-- Fills up to `now`; a clock that went back adds nothing.
local function fill(bucket, now)
    now = math.max(now, bucket.at)
    bucket.units = math.min(bucket.units + (now - bucket.at) * bucket.capacity, bucket_brim(bucket))
    bucket.at = now
end

local function bucket_at(account, capacity, seconds, now)
    local bucket = stored_bucket(account)
    if bucket then
        resize(bucket, capacity, seconds)
    else
        bucket = { units = 0, at = now, capacity = capacity, seconds = seconds }
        bucket.units = bucket_brim(bucket)
    end
    fill(bucket, now)
    return bucket
end

local function store_bucket(account, bucket)
    set(account, 'bu', bucket.units)
    set(account, 'bt', bucket.at)
    set(account, 'bc', bucket.capacity)
    set(account, 'bs', bucket.seconds)
end

local function bucket_wait_ms(bucket)
    local short = math.max(bucket_cost(bucket) - bucket.units, 0)
    return math.ceil(short / math.max(bucket.capacity, 1))
end

-- Tokens used and reserved and requests of the user, the same of the key, streams, requests left in
-- the window (-1 = untouched), and milliseconds until that is full again.
local function standing(user, key, day, now)
    local left, full_in = -1, 0
    local bucket = stored_bucket(user)
    if bucket then
        fill(bucket, now)
        local cost = bucket_cost(bucket)
        left = cost > 0 and math.floor(bucket.units / cost) or bucket.capacity
        full_in = math.ceil((bucket_brim(bucket) - bucket.units) / math.max(bucket.capacity, 1))
    end
    return get(user, day .. ':u'), get(user, day .. ':r'), get(user, day .. ':q'),
        get(key, day .. ':u'), get(key, day .. ':r'), get(key, day .. ':q'),
        get(user, 's'), left, full_in
end

-- A debit a line: whose (`u` or `k`), what, and its numbers, as `debits` of src/quota/redis/wire.rs
-- writes them.
local function read_debits(text, user, key)
    local debits = {}
    for line in string.gmatch(text, '[^\n]+') do
        local word = {}
        for part in string.gmatch(line, '%S+') do
            word[#word + 1] = part
        end
        local debit = { account = word[1] == 'u' and user or key, what = word[2] }
        if debit.what == 'window' then
            debit.capacity, debit.seconds = whole(word[3]), whole(word[4])
        elseif debit.what == 'request' then
            debit.day, debit.limit = word[3], whole(word[4])
        elseif debit.what == 'tokens' then
            debit.day, debit.limit = word[3], whole(word[4])
            debit.want, debit.least, debit.share = whole(word[5]), whole(word[6]), whole(word[7])
            -- None in what an older gateway wrote: its calls are likely to take what they need.
            debit.likely = whole(word[8])
        else
            debit.limit = whole(word[3])
        end
        debits[#debits + 1] = debit
    end
    return debits
end

-- What a call may still get: all that is `expected` of it, and what is expected of nobody.
local function free_tokens(debit, expected)
    local of_nobody = math.max(debit.limit - exposed(debit.account, debit.day), 0)
    return math.min(math.max(debit.limit - taken(debit.account, debit.day), 0), of_nobody + expected)
end

-- Up to `want` of what is free for a call of which so much is `expected`, and no more than the
-- debit's share of it unless `least` is.
local function addable(debit, expected, want, least)
    local free = free_tokens(debit, expected)
    local fair = free
    if debit.share > 0 then
        fair = math.max(math.floor(free / debit.share), least)
    end
    return math.min(free, want, fair)
end

-- The least that `measure` gives for any of the token debits.
local function least_of(debits, measure)
    local least = nil
    for _, debit in ipairs(debits) do
        if debit.what == 'tokens' then
            local number = measure(debit)
            least = least and math.min(least, number) or number
        end
    end
    return least or 0
end

-- Gives back what a lease holds, and what was expected of it, and books what was used. The window
-- keeps its request. Returns the tokens that went past a limit.
local function release(debits, reserved, expected, used, counted)
    local overshoot = 0
    for _, debit in ipairs(debits) do
        local account = debit.account
        if debit.what == 'request' then
            add(account, debit.day, ':q', counted and 0 or -1)
            local open = math.max(get(account, debit.day .. ':o') - 1, 0)
            set(account, debit.day .. ':o', open)
            if open == 0 then
                -- An older gateway ends leases without taking this back.
                expect(account, debit.day, -get(account, debit.day .. ':e'))
            end
        elseif debit.what == 'tokens' then
            add(account, debit.day, ':r', -reserved)
            expect(account, debit.day, -expected)
            add(account, debit.day, ':u', used)
            local past = math.max(taken(account, debit.day) - debit.limit, 0)
            overshoot = math.max(overshoot, math.min(math.max(used - reserved, 0), past))
        elseif debit.what == 'stream' then
            set(account, 's', math.max(get(account, 's') - 1, 0))
        end
    end
    return overshoot
end

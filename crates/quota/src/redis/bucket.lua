-- The token bucket of an account. A request costs 1000 units for each second of the
-- refill, and each millisecond adds `CAPACITY` units.

local function bucket_cost(account)
    return account[SECONDS] * 1000
end

local function bucket_max_units(account)
    return bucket_cost(account) * account[CAPACITY]
end

-- Fills up to `now`; a clock that went back adds nothing.
local function fill(account, now)
    now = max(now, account[FILLED_AT])
    local added = (now - account[FILLED_AT]) * account[CAPACITY]
    account[UNITS] = min(account[UNITS] + added, bucket_max_units(account))
    account[FILLED_AT] = now
end

-- Returns the bucket at `now` under a window. After a plan change it is filled in the same proportion, because
-- that is no refill.
local function bucket_at(account, capacity, seconds, now)
    local bucket = {
        [UNITS] = account[UNITS], [FILLED_AT] = account[FILLED_AT],
        [CAPACITY] = capacity, [SECONDS] = seconds,
    }
    if not has_bucket(account) then
        bucket[UNITS], bucket[FILLED_AT] = bucket_max_units(bucket), now
    elseif account[CAPACITY] ~= capacity or account[SECONDS] ~= seconds then
        local before, max_units = max(bucket_max_units(account), 1), bucket_max_units(bucket)
        bucket[UNITS] = min(floor(bucket[UNITS] * max_units / before), max_units)
    end
    fill(bucket, now)
    return bucket
end

local function store_bucket(account, bucket)
    for place = UNITS, SECONDS do
        account[place] = bucket[place]
    end
end

local function bucket_wait_ms(bucket)
    return ceil(max(bucket_cost(bucket) - bucket[UNITS], 0) / max(bucket[CAPACITY], 1))
end

-- Returns tokens used, tokens reserved and requests of the user, the same of the key, open streams, requests left
-- in the window (-1 if it is unused), and milliseconds until the window is full again.
local function usage_snapshot(user, key, now)
    local left, full_in = -1, 0
    if has_bucket(user) then
        fill(user, now)
        local cost = bucket_cost(user)
        left = cost > 0 and floor(user[UNITS] / cost) or user[CAPACITY]
        full_in = ceil((bucket_max_units(user) - user[UNITS]) / max(user[CAPACITY], 1))
    end
    return user[USED], user[RESERVED], user[REQUESTS], key[USED], key[RESERVED], key[REQUESTS],
        user[STREAMS], left, full_in
end

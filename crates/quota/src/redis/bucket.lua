-- The token bucket of an account, all of whose fields are loaded. A request costs a second's thousand
-- units for each second of the refill, and each millisecond adds `CAPACITY` units.

local function bucket_cost(account)
    return account[SECONDS] * 1000
end

local function bucket_brim(account)
    return bucket_cost(account) * account[CAPACITY]
end

-- Fills up to `now`; a clock that went back adds nothing.
local function fill(account, now)
    now = max(now, account[FILLED_AT])
    local added = (now - account[FILLED_AT]) * account[CAPACITY]
    account[UNITS] = min(account[UNITS] + added, bucket_brim(account))
    account[FILLED_AT] = now
end

-- The bucket as it is at `now` under a window. After a plan change it is as full, in proportion: that
-- is no refill.
local function bucket_at(account, capacity, seconds, now)
    local bucket = {
        [UNITS] = account[UNITS], [FILLED_AT] = account[FILLED_AT],
        [CAPACITY] = capacity, [SECONDS] = seconds,
    }
    if not has_bucket(account) then
        bucket[UNITS], bucket[FILLED_AT] = bucket_brim(bucket), now
    elseif account[CAPACITY] ~= capacity or account[SECONDS] ~= seconds then
        local before, brim = max(bucket_brim(account), 1), bucket_brim(bucket)
        bucket[UNITS] = min(floor(bucket[UNITS] * brim / before), brim)
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

-- Tokens used and reserved and requests of the user, the same of the key, streams, requests left in
-- the window (-1 = untouched), and milliseconds until that is full again.
local function standing(user, key, now)
    local left, full_in = -1, 0
    if has_bucket(user) then
        fill(user, now)
        local cost = bucket_cost(user)
        left = cost > 0 and floor(user[UNITS] / cost) or user[CAPACITY]
        full_in = ceil((bucket_brim(user) - user[UNITS]) / max(user[CAPACITY], 1))
    end
    return user[USED], user[RESERVED], user[REQUESTS], key[USED], key[RESERVED], key[REQUESTS],
        user[STREAMS], left, full_in
end

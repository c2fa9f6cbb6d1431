-- Takes every debit of a call, or none, and stores the lease.
--
-- KEYS 1 epoch, 2 version of the user, 3 lease, 4 tombstone, 5 the user's account, 6 the key's
--      account, 7 lease deadlines, 8 accounts of the day
-- ARGV 1 request, 2 version of the caller record, 3 now in ms or empty, 4 lease in ms, 5 debits, 6 day,
--      7 the charge if the gateway dies
-- Returns granted TOKENS FREE snapshot.. | refused PLACE BY_OPEN_CALLS RETRY_MS snapshot.. | stale |
--      settled | rebuild; PLACE counts the debits from 1.
-- A script, because the check and the reservation must be one step; sent again it returns the same.
local known = redis.call('MGET', KEYS[1], KEYS[2], KEYS[4])
if not known[1] then
    return { 'rebuild' }
end
local lease = redis.call('HMGET', KEYS[3], 'reserved', 'expected')
local reserved, expected = tonumber(lease[1]), whole(lease[2])
if not reserved then
    if known[3] then
        return { 'settled' }
    end
    local version, known_version = whole(known[2]), whole(ARGV[2])
    if version > known_version then
        return { 'stale' }
    elseif version < known_version then
        -- The record comes from the store, so the newer version is valid.
        redis.call('SET', KEYS[2], ARGV[2])
    end
end
local now = clock(ARGV[3])
local debits, user, key = read_debits(ARGV[5], KEYS[5], KEYS[6], ALL)
if not reserved then
    -- Tokens that the call is expected to use: at most what would be free if it were the only running call, and at
    -- least the minimum of its debits.
    local likely, needed = nil, 0
    for place = 1, #debits do
        local debit = debits[place]
        if debit.what == 'tokens' then
            local left = max(debit.limit - debit.account[USED], 0)
            likely = min(likely or left, left, debit.likely)
            needed = max(needed, debit.least)
        end
    end
    likely = max(likely or 0, needed)
    local grant = nil
    for place = 1, #debits do
        local debit = debits[place]
        local account, what, fits, by_open_calls, retry = debit.account, debit.what, true, 0, 0
        if what == 'tokens' then
            local used, limit = account[USED], debit.limit
            fits = used + account[RESERVED] + account[EXPECTED] + likely <= limit
            by_open_calls = used + debit.least <= limit and 1 or 0
            local tokens = addable(debit, 0, debit.want, debit.least)
            grant = min(grant or tokens, tokens)
        elseif what == 'request' then
            fits = account[REQUESTS] < debit.limit
        elseif what == 'window' then
            debit.bucket = bucket_at(account, debit.capacity, debit.seconds, now)
            retry = bucket_wait_ms(debit.bucket)
            fits = debit.capacity > 0 and retry == 0
        else
            fits = account[STREAMS] < debit.limit
            by_open_calls = 1
        end
        if not fits then
            return { 'refused', place, by_open_calls, retry, usage_snapshot(user, key, now) }
        end
    end
    reserved = grant or 0
    expected = max(likely - reserved, 0)
    for place = 1, #debits do
        local debit = debits[place]
        local account, what = debit.account, debit.what
        if what == 'tokens' then
            account[RESERVED] = account[RESERVED] + reserved
            expect(account, expected)
        elseif what == 'request' then
            account[REQUESTS] = account[REQUESTS] + 1
            account[OPEN] = account[OPEN] + 1
        elseif what == 'window' then
            local bucket = debit.bucket
            bucket[UNITS] = max(bucket[UNITS] - bucket_cost(bucket), 0)
            store_bucket(account, bucket)
        else
            account[STREAMS] = account[STREAMS] + 1
        end
    end
    save_both(user, key, KEYS[8])
    redis.call('HSET', KEYS[3], 'reserved', reserved, 'expected', expected, 'debits', ARGV[5],
        'charge', ARGV[7])
    redis.call('ZADD', KEYS[7], now + ARGV[4], ARGV[1])
end
local free = nil
for place = 1, #debits do
    if debits[place].what == 'tokens' then
        local tokens = free_tokens(debits[place], expected)
        free = min(free or tokens, tokens)
    end
end
return { 'granted', reserved, free or 0, usage_snapshot(user, key, now) }

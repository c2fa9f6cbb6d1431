-- Takes every debit of a call, or none, and remembers the lease.
--
-- KEYS 1 epoch, 2 version of the user, 3 lease, 4 tombstone, 5 the user's account, 6 the key's
--      account, 7 lease deadlines, 8 accounts of the day
-- ARGV 1 request, 2 version relied on, 3 now in ms or empty, 4 lease in ms, 5 debits, 6 day,
--      7 the charge should the gateway die
-- Answers granted TOKENS FREE standing.. | refused PLACE BY_OPEN_CALLS RETRY_MS standing.. | stale |
--      settled | rebuild; PLACE counts the debits from 1.
-- A script, because looking and taking must be one step; sent again it answers the same.
local now = clock(ARGV[3])
local day = ARGV[6]
if redis.call('EXISTS', KEYS[1]) == 0 then
    return { 'rebuild' }
end
local user, key = load(KEYS[5]), load(KEYS[6])
local debits = read_debits(ARGV[5], user, key)
local lease = redis.call('HMGET', KEYS[3], 'reserved', 'expected')
local reserved, expected = lease[1], whole(lease[2])
if not reserved then
    if redis.call('EXISTS', KEYS[4]) == 1 then
        return { 'settled' }
    end
    local version = whole(redis.call('GET', KEYS[2]))
    if version > whole(ARGV[2]) then
        return { 'stale' }
    elseif version < whole(ARGV[2]) then
        -- The record comes from the store, so a newer one is right.
        redis.call('SET', KEYS[2], ARGV[2])
    end
    -- What the call is likely to take, so much of it as is left for it were it the only one running,
    -- but never less than it needs.
    local likely, needed = nil, 0
    for _, debit in ipairs(debits) do
        if debit.what == 'tokens' then
            local left = math.max(debit.limit - get(debit.account, debit.day .. ':u'), 0)
            likely = math.min(likely or left, left, debit.likely)
            needed = math.max(needed, debit.least)
        end
    end
    likely = math.max(likely or 0, needed)
    for place, debit in ipairs(debits) do
        local account, fits, by_open_calls, retry = debit.account, true, 0, 0
        if debit.what == 'window' then
            retry = bucket_wait_ms(bucket_at(account, debit.capacity, debit.seconds, now))
            fits = debit.capacity > 0 and retry == 0
        elseif debit.what == 'request' then
            fits = get(account, debit.day .. ':q') < debit.limit
        elseif debit.what == 'tokens' then
            fits = exposed(account, debit.day) + likely <= debit.limit
            local alone = get(account, debit.day .. ':u') + debit.least <= debit.limit
            by_open_calls = alone and 1 or 0
        else
            fits = get(account, 's') < debit.limit
            by_open_calls = 1
        end
        if not fits then
            return { 'refused', place, by_open_calls, retry, standing(user, key, day, now) }
        end
    end
    local tokens = least_of(debits, function(debit)
        return addable(debit, 0, debit.want, debit.least)
    end)
    expected = math.max(likely - tokens, 0)
    for _, debit in ipairs(debits) do
        local account = debit.account
        if debit.what == 'window' then
            local bucket = bucket_at(account, debit.capacity, debit.seconds, now)
            bucket.units = math.max(bucket.units - bucket_cost(bucket), 0)
            store_bucket(account, bucket)
        elseif debit.what == 'request' then
            add(account, debit.day, ':q', 1)
            set(account, debit.day .. ':o', get(account, debit.day .. ':o') + 1)
        elseif debit.what == 'tokens' then
            add(account, debit.day, ':r', tokens)
            expect(account, debit.day, expected)
        else
            set(account, 's', get(account, 's') + 1)
        end
    end
    save(user)
    save(key)
    reserved = tokens
    redis.call('HSET', KEYS[3], 'reserved', digits(tokens), 'expected', digits(expected),
        'debits', ARGV[5], 'charge', ARGV[7])
    redis.call('ZADD', KEYS[7], now + ARGV[4], ARGV[1])
    redis.call('SADD', KEYS[8], KEYS[5], KEYS[6])
    redis.call('PEXPIRE', KEYS[8], ACCOUNT_MS)
end
local free = least_of(debits, function(debit)
    return free_tokens(debit, expected)
end)
return { 'granted', whole(reserved), free, standing(user, key, day, now) }

-- Takes every debit of a call, or none, and stores the lease.
--
-- KEYS 1 epoch, 2 version of the user, 3 lease, 4 the user's account, 5 the key's account,
--      6 lease deadlines, 7 accounts of the day
-- ARGV 1 request, 2 version of the caller record, 3 now in ms or empty, 4 lease in ms, 5 debits, 6 day,
--      7 the charge if the gateway dies
-- Returns granted TOKENS FREE snapshot.. | refused PLACE BY_OPEN_CALLS RETRY_MS snapshot.. | stale |
--      settled | rebuild; PLACE counts the debits from 1.
-- A script, because the check and the reservation must be one step; sent again it returns the same.
local epoch, stored_version, lease, user_text, key_text = unpack(redis.call('MGET', unpack(KEYS, 1, 5)))
if not epoch then
    return { 'rebuild' }
elseif lease and not is_lease(lease) then
    return { 'settled' }
elseif not lease then
    local version, known_version = whole(stored_version), whole(ARGV[2])
    if version > known_version then
        return { 'stale' }
    elseif version < known_version then
        -- The record comes from the store, so the newer version is valid.
        redis.call('SET', KEYS[2], ARGV[2])
    end
end
local now, day = clock(ARGV[3]), tonumber(ARGV[6])
local debits = cmsgpack.unpack(ARGV[5])
local accounts = accounts_of(day, KEYS[4], user_text, KEYS[5], key_text)
local user, key = accounts[1], accounts[2]
local reserved, expected
if lease then
    reserved, expected = decode_lease(lease)
else
    -- Tokens that the call is expected to use: at most what would be free if it were the only running call, and at
    -- least the minimum of its debits.
    local likely, needed = nil, 0
    for place = 1, #debits do
        local debit = debits[place]
        if debit[RESOURCE] == TOKENS then
            local left = max(debit[LIMIT] - accounts[debit[OWNER]][USED], 0)
            likely = min(likely or left, left, debit[LIKELY])
            needed = max(needed, debit[LEAST])
        end
    end
    likely = max(likely or 0, needed)
    local grant, buckets = nil, {}
    for place = 1, #debits do
        local debit = debits[place]
        local account, resource, fits, by_open_calls, retry = accounts[debit[OWNER]], debit[RESOURCE], true, 0, 0
        if resource == TOKENS then
            local used, limit, least = account[USED], debit[LIMIT], debit[LEAST]
            fits = used + account[RESERVED] + account[EXPECTED] + likely <= limit
            by_open_calls = used + least <= limit and 1 or 0
            local tokens = addable(debit, account, 0, debit[WANT], least)
            grant = min(grant or tokens, tokens)
        elseif resource == REQUEST then
            fits = account[REQUESTS] < debit[LIMIT]
        elseif resource == WINDOW then
            local bucket = bucket_at(account, debit[WINDOW_CAPACITY], debit[WINDOW_SECONDS], now)
            buckets[place] = bucket
            retry = bucket_wait_ms(bucket)
            fits = debit[WINDOW_CAPACITY] > 0 and retry == 0
        else
            fits = account[STREAMS] < debit[LIMIT]
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
        local account, resource = accounts[debit[OWNER]], debit[RESOURCE]
        if resource == TOKENS then
            account[RESERVED] = account[RESERVED] + reserved
            expect(account, expected)
        elseif resource == REQUEST then
            account[REQUESTS] = account[REQUESTS] + 1
            account[OPEN] = account[OPEN] + 1
        elseif resource == WINDOW then
            local bucket = buckets[place]
            bucket[UNITS] = max(bucket[UNITS] - bucket_cost(bucket), 0)
            store_bucket(account, bucket)
        else
            account[STREAMS] = account[STREAMS] + 1
        end
    end
    save_both(user, key, KEYS[7])
    redis.call('SET', KEYS[3], encode_lease(reserved, expected, 0, day, ARGV[5], ARGV[7]))
    redis.call('ZADD', KEYS[6], now + ARGV[4], ARGV[1])
end
local free = nil
for place = 1, #debits do
    local debit = debits[place]
    if debit[RESOURCE] == TOKENS then
        local tokens = free_tokens(debit, accounts[debit[OWNER]], expected)
        free = min(free or tokens, tokens)
    end
end
return { 'granted', reserved, free or 0, usage_snapshot(user, key, now) }

-- Restores the lease of a running call that Redis has lost, or its lost extensions. Limits are not checked,
-- because the call was already admitted.
--
-- KEYS 1 lease, 2 tombstone, 3 the user's account, 4 the key's account, 5 lease deadlines,
--      6 accounts of the day
-- ARGV 1 request, 2 now in ms or empty, 3 lease in ms, 4 debits, 5 tokens reserved, 6 the charge if
--      the gateway dies
-- Returns restored | there | ended.
-- A script, because all debits must be restored together; sent again it changes nothing.
local deadline = clock(ARGV[2]) + ARGV[3]
local lease = redis.call('HMGET', KEYS[1], 'reserved', 'expected')
local reserved, expected = lease[1], whole(lease[2])
if not reserved and redis.call('EXISTS', KEYS[2]) == 1 then
    return { 'ended' }
end
local debits, user, key = read_debits(ARGV[4], KEYS[3], KEYS[4], WITH_STREAMS)
if reserved then
    local more = whole(ARGV[5]) - whole(reserved)
    if more > 0 then
        local converted = min(expected, more)
        for _, debit in ipairs(debits) do
            if debit.what == 'tokens' then
                debit.account[RESERVED] = debit.account[RESERVED] + more
                expect(debit.account, -converted)
            end
        end
        redis.call('HSET', KEYS[1], 'reserved', ARGV[5], 'expected', expected - converted)
    end
    save(user)
    save(key)
    redis.call('ZADD', KEYS[5], 'NX', deadline, ARGV[1])
    return { 'there' }
end
-- Like the take, except for the remaining tokens at that time, which are not stored.
expected = least_of(debits, function(debit)
    return max(min(debit.likely, debit.limit) - whole(ARGV[5]), 0)
end)
for _, debit in ipairs(debits) do
    local account = debit.account
    if debit.what == 'request' then
        account[REQUESTS] = account[REQUESTS] + 1
        account[OPEN] = account[OPEN] + 1
    elseif debit.what == 'tokens' then
        account[RESERVED] = account[RESERVED] + whole(ARGV[5])
        expect(account, expected)
    elseif debit.what == 'stream' then
        account[STREAMS] = account[STREAMS] + 1
    end
end
save(user)
save(key)
redis.call('HSET', KEYS[1], 'reserved', ARGV[5], 'expected', expected, 'debits', ARGV[4],
    'charge', ARGV[6])
redis.call('ZADD', KEYS[5], deadline, ARGV[1])
redis.call('SADD', KEYS[6], KEYS[3], KEYS[4])
redis.call('PEXPIRE', KEYS[6], ACCOUNT_MS)
return { 'restored' }

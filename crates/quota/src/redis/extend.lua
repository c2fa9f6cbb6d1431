-- Extends the reservation of a running call.
--
-- KEYS 1 lease, 2 the user's account, 3 the key's account, 4 epoch
-- ARGV 1 reserved tokens that the gateway knows of, 2 want, 3 least
-- Returns added TOKENS | held | exhausted | rebuild | lost: there is no such lease.
-- A script, because the check and the reservation must be one step. If it is sent again after a lost reply, it finds
-- more reserved than the gateway knows of, and returns the difference instead of reserving twice.
local lease = redis.call('HMGET', KEYS[1], 'reserved', 'debits', 'expected')
if not lease[1] then
    return { 'lost' }
elseif redis.call('EXISTS', KEYS[4]) == 0 then
    -- Without an epoch the accounts are not complete.
    return { 'rebuild' }
end
local reserved, expected, known = whole(lease[1]), whole(lease[3]), whole(ARGV[1])
if reserved > known then
    return { 'added', reserved - known }
end
local debits, user, key = read_debits(lease[2], KEYS[2], KEYS[3], OF_DAY)
local want, least = whole(ARGV[2]), whole(ARGV[3])
local added = least_of(debits, function(debit)
    return addable(debit, expected, want, least)
end)
if added < max(least, 1) then
    local alone = least_of(debits, function(debit)
        return max(debit.limit - debit.account[USED] - reserved, 0)
    end)
    return { alone >= max(least, 1) and 'held' or 'exhausted' }
end
-- Expected tokens that the call now has reserved.
local converted = min(expected, added)
for _, debit in ipairs(debits) do
    if debit.what == 'tokens' then
        debit.account[RESERVED] = debit.account[RESERVED] + added
        expect(debit.account, -converted)
    end
end
save(user)
save(key)
redis.call('HSET', KEYS[1], 'reserved', reserved + added, 'expected', expected - converted)
return { 'added', added }

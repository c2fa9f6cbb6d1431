-- Extends the reservation of a running call.
--
-- KEYS 1 lease, 2 the user's account, 3 the key's account, 4 epoch
-- ARGV 1 tokens the gateway knows it holds, 2 want, 3 least
-- Answers added TOKENS | held | exhausted | rebuild | lost: there is no such lease.
-- A script, because the check and the reservation must be one step. Sent again after a lost answer it finds
-- more held than the gateway knows of, and says how much, instead of taking twice.
local lease = redis.call('HMGET', KEYS[1], 'reserved', 'debits', 'expected')
if not lease[1] then
    return { 'lost' }
elseif redis.call('EXISTS', KEYS[4]) == 0 then
    -- Without an epoch accounts do not say what is used.
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
-- What was expected of the call is now held by it.
local come = min(expected, added)
for _, debit in ipairs(debits) do
    if debit.what == 'tokens' then
        debit.account[RESERVED] = debit.account[RESERVED] + added
        expect(debit.account, -come)
    end
end
save(user)
save(key)
redis.call('HSET', KEYS[1], 'reserved', reserved + added, 'expected', expected - come)
return { 'added', added }

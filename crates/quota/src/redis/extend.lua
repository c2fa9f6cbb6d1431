-- Extends the reservation of a running call.
--
-- KEYS 1 lease, 2 the user's account, 3 the key's account, 4 epoch
-- ARGV 1 reserved tokens that the gateway knows of, 2 want, 3 least
-- Returns added TOKENS | held | exhausted | rebuild | lost: there is no such lease.
-- A script, because the check and the reservation must be one step. If it is sent again after a lost reply, it finds
-- more reserved than the gateway knows of, and returns the difference instead of reserving twice.
local lease, user_text, key_text, epoch = unpack(redis.call('MGET', unpack(KEYS)))
if not is_lease(lease) then
    return { 'lost' }
elseif not epoch then
    -- Without an epoch the accounts are not complete.
    return { 'rebuild' }
end
local reserved, expected, day, debits_text = decode_lease(lease)
local known = whole(ARGV[1])
if reserved > known then
    return { 'added', reserved - known }
end
local debits = cmsgpack.unpack(debits_text)
local accounts = accounts_of(day, KEYS[2], user_text, KEYS[3], key_text)
local want, least = whole(ARGV[2]), whole(ARGV[3])
local added = least_of(debits, function(debit)
    return addable(debit, accounts[debit[OWNER]], expected, want, least)
end)
if added < max(least, 1) then
    local alone = least_of(debits, function(debit)
        return max(debit[LIMIT] - accounts[debit[OWNER]][USED] - reserved, 0)
    end)
    return { alone >= max(least, 1) and 'held' or 'exhausted' }
end
local converted = reserve_more(debits, accounts, expected, added)
save(accounts[1])
save(accounts[2])
change_lease(KEYS[1], reserved + added, expected - converted)
return { 'added', added }

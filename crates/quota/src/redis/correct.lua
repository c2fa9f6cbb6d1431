-- Corrects the charge of a call that has ended: the accounts change by the difference, and the correct charge
-- goes to the outbox.
--
-- KEYS 1 tombstone of the correction, 2 lease of the call, 3 the user's account, 4 the key's account,
--      5 outbox, 6 number of settlements, 7 epoch, 8 tombstone of an earlier version
-- ARGV 1 tokens charged before, 2 tokens charged now, 3 day, 4 charge, 5 tombstone in ms
-- Returns corrected | again | rebuild.
-- A script, because accounts and charge must change together; sent again it changes nothing.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return { 'again' }
elseif redis.call('EXISTS', KEYS[7]) == 0 then
    return { 'rebuild' }
end
for _, name in ipairs({ KEYS[3], KEYS[4] }) do
    local account = load(name, tonumber(ARGV[3]))
    -- Days that are no longer counted are in the ledger only.
    if account.has_day then
        account[USED] = max(account[USED] + whole(ARGV[2]) - whole(ARGV[1]), 0)
        save(account)
    end
end
-- A gateway that was presumed dead must not replace the corrected charge.
local ended = redis.call('MGET', KEYS[2], KEYS[8])
for index, name in ipairs({ KEYS[2], KEYS[8] }) do
    if ended[index] and string.match(ended[index], '^reaped:') then
        redis.call('SET', name, 'settled', 'PX', ARGV[5])
    end
end
local number = redis.call('INCR', KEYS[6])
redis.call('XADD', KEYS[5], '*', 'charge', ARGV[4], 'n', number)
redis.call('SET', KEYS[1], 'corrected', 'PX', ARGV[5])
return { 'corrected' }

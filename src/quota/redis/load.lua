-- Sets what accounts have used by the ledger, beside what their running calls hold.
--
-- KEYS 1 epoch, 2 outbox, 3 number of settlements, 4 accounts of the day, 5.. accounts
-- ARGV 1 day, 2 empty: only a partition without an epoch may be loaded; or the number of settlements
--      when the ledger was read: only if it had every charge then and none has come since,
--      3.. tokens and requests of each account
-- Answers loaded | begun | again.
-- A script, because an account must not be drawn on half way; sent again it changes nothing.
if ARGV[2] == '' then
    if redis.call('EXISTS', KEYS[1]) == 1 then
        return { 'begun' }
    end
elseif redis.call('XLEN', KEYS[2]) > 0 or whole(redis.call('GET', KEYS[3])) ~= whole(ARGV[2]) then
    return { 'again' }
end
local day = ARGV[1]
for place = 5, #KEYS do
    local account = load(KEYS[place])
    begin_day(account, day)
    set(account, day .. ':u', whole(ARGV[2 * place - 7]))
    set(account, day .. ':q', whole(ARGV[2 * place - 6]) + get(account, day .. ':o'))
    save(account)
    redis.call('SADD', KEYS[4], KEYS[place])
end
redis.call('PEXPIRE', KEYS[4], ACCOUNT_MS)
return { 'loaded' }

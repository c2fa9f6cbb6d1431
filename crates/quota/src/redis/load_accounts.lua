-- Sets the usage of accounts from the ledger; reservations of running calls stay.
--
-- KEYS 1 epoch, 2 number of settlements, 3 accounts of the day, 4.. accounts
-- ARGV 1 day, 2 epoch and 3 number of settlements before the ledger was read, when no charge waited,
--      4.. tokens and requests of each account
-- Returns loaded | again: the ledger has to be read once more.
-- A script, because no call may be admitted before all accounts are set; sent again it changes nothing.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[2] then
    return { 'again' }
elseif whole(redis.call('GET', KEYS[2])) ~= whole(ARGV[3]) then
    return { 'again' }
end
for place = 4, #KEYS do
    local account = load(KEYS[place], tonumber(ARGV[1]))
    account[USED] = whole(ARGV[2 * place - 4])
    account[REQUESTS] = whole(ARGV[2 * place - 3]) + account[OPEN]
    save(account)
    redis.call('SADD', KEYS[3], KEYS[place])
end
redis.call('PEXPIRE', KEYS[3], ACCOUNT_MS)
return { 'loaded' }

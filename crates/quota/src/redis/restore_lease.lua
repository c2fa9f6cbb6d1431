-- Restores the lease of a running call that Redis has lost, or its lost extensions. Limits are not checked,
-- because the call was already admitted.
--
-- KEYS 1 lease, 2 the user's account, 3 the key's account, 4 lease deadlines, 5 accounts of the day
-- ARGV 1 request, 2 now in ms or empty, 3 lease in ms, 4 debits, 5 day, 6 tokens reserved, 7 the charge if
--      the gateway dies
-- Returns restored | there | ended.
-- A script, because all debits must be restored together; sent again it changes nothing.
local deadline = clock(ARGV[2]) + ARGV[3]
local lease, user_text, key_text = unpack(redis.call('MGET', unpack(KEYS, 1, 3)))
if lease and not is_lease(lease) then
    return { 'ended' }
end
local debits, day, reserved = cmsgpack.unpack(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local accounts = accounts_of(day, KEYS[2], user_text, KEYS[3], key_text)
if lease then
    local stored, expected = decode_lease(lease)
    local more = reserved - stored
    if more > 0 then
        local converted = reserve_more(debits, accounts, expected, more)
        change_lease(KEYS[1], reserved, expected - converted)
    end
    save(accounts[1])
    save(accounts[2])
    redis.call('ZADD', KEYS[4], 'NX', deadline, ARGV[1])
    return { 'there' }
end
-- Like the take, except for the remaining tokens at that time, which are not stored.
local expected = least_of(debits, function(debit)
    return max(min(debit[LIKELY], debit[LIMIT]) - reserved, 0)
end)
for place = 1, #debits do
    local debit = debits[place]
    local account, resource = accounts[debit[OWNER]], debit[RESOURCE]
    if resource == REQUEST then
        account[REQUESTS] = account[REQUESTS] + 1
        account[OPEN] = account[OPEN] + 1
    elseif resource == TOKENS then
        account[RESERVED] = account[RESERVED] + reserved
        expect(account, expected)
    elseif resource == STREAM then
        account[STREAMS] = account[STREAMS] + 1
    end
end
save(accounts[1])
save(accounts[2])
redis.call('SET', KEYS[1], encode_lease(reserved, expected, 0, day, ARGV[4], ARGV[7]))
redis.call('ZADD', KEYS[4], deadline, ARGV[1])
redis.call('SADD', KEYS[5], KEYS[2], KEYS[3])
redis.call('PEXPIRE', KEYS[5], ACCOUNT_MS)
return { 'restored' }

-- Rolls back a take whose reply was lost and whose caller was refused.
--
-- KEYS 1 lease, 2 the user's account, 3 the key's account, 4 lease deadlines
-- ARGV 1 request, 2 tombstone in ms
-- Returns withdrawn | again | reaped: its gateway was presumed dead in the meantime, and it was charged.
-- A script, because all debits must be returned together; sent again it changes nothing.
local known, user_text, key_text = unpack(redis.call('MGET', unpack(KEYS, 1, 3)))
if known and not is_lease(known) then
    return { string.find(known, '^reaped:') and 'reaped' or 'again' }
end
-- Should the take itself arrive only now, the tombstone refuses it.
redis.call('SET', KEYS[1], 'withdrawn', 'PX', ARGV[2])
if not known then
    return { 'again' }
end
local reserved, expected, day, debits_text = decode_lease(known)
local debits = cmsgpack.unpack(debits_text)
local accounts = accounts_of(day, KEYS[2], user_text, KEYS[3], key_text)
release(debits, accounts, reserved, expected, 0, false)
for _, debit in ipairs(debits) do
    local account = accounts[debit[OWNER]]
    if debit[RESOURCE] == WINDOW and has_bucket(account) then
        account[UNITS] = min(account[UNITS] + bucket_cost(account), bucket_max_units(account))
    end
end
save(accounts[1])
save(accounts[2])
redis.call('ZREM', KEYS[4], ARGV[1])
return { 'withdrawn' }

-- Rolls back a take whose reply was lost and whose caller was refused.
--
-- KEYS 1 lease, 2 tombstone, 3 the user's account, 4 the key's account, 5 lease deadlines
-- ARGV 1 request, 2 tombstone in ms
-- Returns withdrawn | again | reaped: its gateway was presumed dead in the meantime, and it was charged.
-- A script, because all debits must be returned together; sent again it changes nothing.
local lease = redis.call('HMGET', KEYS[1], 'reserved', 'debits', 'expected')
local ended = redis.call('GET', KEYS[2])
if not lease[1] and ended then
    return { string.find(ended, '^reaped:') and 'reaped' or 'again' }
end
-- Should the take itself arrive only now, the tombstone refuses it.
redis.call('SET', KEYS[2], 'withdrawn', 'PX', ARGV[2])
if not lease[1] then
    return { 'again' }
end
local debits, user, key = read_debits(lease[2], KEYS[3], KEYS[4], ALL)
release(debits, whole(lease[1]), whole(lease[3]), 0, false)
for _, debit in ipairs(debits) do
    local account = debit.account
    if debit.what == 'window' and has_bucket(account) then
        account[UNITS] = min(account[UNITS] + bucket_cost(account), bucket_max_units(account))
    end
end
save(user)
save(key)
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[5], ARGV[1])
return { 'withdrawn' }

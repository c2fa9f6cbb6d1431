-- Undoes a take as if it had never been: its answer was lost, and its caller was refused.
--
-- KEYS 1 lease, 2 tombstone, 3 the user's account, 4 the key's account, 5 lease deadlines
-- ARGV 1 request, 2 tombstone in ms
-- Answers withdrawn | again | reaped: its gateway was taken for dead meanwhile, and it was charged.
-- A script, because all debits must come back together; sent again it changes nothing.
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
local user, key = load(KEYS[3]), load(KEYS[4])
local debits = read_debits(lease[2], user, key)
release(debits, whole(lease[1]), whole(lease[3]), 0, false)
for _, debit in ipairs(debits) do
    local bucket = debit.what == 'window' and stored_bucket(debit.account)
    if bucket then
        bucket.units = math.min(bucket.units + bucket_cost(bucket), bucket_brim(bucket))
        store_bucket(debit.account, bucket)
    end
end
save(user)
save(key)
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[5], ARGV[1])
return { 'withdrawn' }

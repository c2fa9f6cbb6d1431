-- Ends a lease: what was used is used, the rest is free again, and the charge is on its way.
--
-- KEYS 1 lease, 2 tombstone, 3 the user's account, 4 the key's account, 5 lease deadlines,
--      6 outbox, 7 number of settlements, 8 epoch
-- ARGV 1 request, 2 tokens used, 3 whether it counts as a request, 4 charge, 5 tombstone in ms,
--      6 empty, or now in ms: then only if the lease's deadline has passed
-- Answers settled OVERSHOOT NUMBER | again | alive | lost NUMBER.
-- A script, because counters and charge must change together; sent again it changes nothing.
local lease = redis.call('HMGET', KEYS[1], 'reserved', 'debits')
if not lease[1] then
    if redis.call('EXISTS', KEYS[2]) == 1 then
        return { 'again' }
    end
    if ARGV[6] ~= '' then
        redis.call('ZREM', KEYS[5], ARGV[1])
        return { 'again' }
    end
    -- Redis forgot the lease, and with it the counters' part in it: a rebuild brings those back.
    redis.call('XADD', KEYS[6], '*', 'charge', ARGV[4])
    redis.call('SET', KEYS[2], 'lost', 'PX', ARGV[5])
    return { 'lost', redis.call('INCR', KEYS[7]) }
end
if ARGV[6] ~= '' then
    local deadline = redis.call('ZSCORE', KEYS[5], ARGV[1])
    if deadline and tonumber(deadline) > tonumber(ARGV[6]) then
        return { 'alive' }
    end
end
local user, key = load(KEYS[3]), load(KEYS[4])
local debits = read_debits(lease[2], user, key)
local overshoot = release(debits, whole(lease[1]), whole(ARGV[2]), ARGV[3] == '1')
save(user)
save(key)
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('XADD', KEYS[6], '*', 'charge', ARGV[4])
local mark = ARGV[6] ~= '' and ('reaped:' .. ARGV[2]) or 'settled'
redis.call('SET', KEYS[2], mark, 'PX', ARGV[5])
return { 'settled', overshoot, redis.call('INCR', KEYS[7]) }

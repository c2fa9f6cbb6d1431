-- Returns the state of a partition.
--
-- KEYS 1 epoch, 2 number of settlements, 3 outbox
-- Returns state EPOCH NUMBER WAITING; EPOCH is empty if there is none.
-- A script, because a ledger read now has every charge only if none waits at this number.
local epoch = redis.call('GET', KEYS[1]) or ''
return { 'state', epoch, whole(redis.call('GET', KEYS[2])), redis.call('XLEN', KEYS[3]) }

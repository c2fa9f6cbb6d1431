-- Opens a partition whose accounts have been loaded.
--
-- KEYS 1 epoch, 2 number of settlements, 3 gateways that are restoring
-- ARGV 1 the new epoch, 2 number of settlements before the ledger was read
-- Returns open | again: a call was settled since, so the ledger has to be read once more; or a
--      gateway has not restored all its leases.
-- A script, because nothing may be settled between the check and the epoch.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return { 'open' }
elseif whole(redis.call('GET', KEYS[2])) ~= whole(ARGV[2]) then
    return { 'again' }
elseif redis.call('ZCOUNT', KEYS[3], clock(''), '+inf') > 0 then
    return { 'again' }
end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[3])
return { 'open' }

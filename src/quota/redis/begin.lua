-- Opens a partition whose accounts have been loaded.
--
-- KEYS 1 epoch, 2 outbox, 3 number of settlements
-- ARGV 1 the new epoch, 2 number of settlements when the ledger was read
-- Answers begun | again: a call was settled since, so the ledger has to be read once more.
-- A script, because nothing may be settled between the look and the epoch.
if redis.call('EXISTS', KEYS[1]) == 1 then
    return { 'begun' }
elseif redis.call('XLEN', KEYS[2]) > 0 or whole(redis.call('GET', KEYS[3])) ~= whole(ARGV[2]) then
    return { 'again' }
end
redis.call('SET', KEYS[1], ARGV[1])
return { 'begun' }

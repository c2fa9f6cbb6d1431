-- Returns the usage of a user and a key, and changes nothing.
--
-- KEYS 1 epoch, 2 the user's account, 3 the key's account
-- ARGV 1 day, 2 now in ms or empty
-- Returns the result of `usage_snapshot` in bucket.lua | rebuild: nothing is known before the counters are rebuilt.
-- A script, so that the arithmetic of the bucket is written once.
if redis.call('EXISTS', KEYS[1]) == 0 then
    return { 'rebuild' }
end
local day = tonumber(ARGV[1])
return { usage_snapshot(load(KEYS[2], day), load(KEYS[3], day), clock(ARGV[2])) }

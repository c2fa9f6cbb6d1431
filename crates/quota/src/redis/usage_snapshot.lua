-- Returns the usage of a user and a key, and changes nothing.
--
-- KEYS 1 the user's account, 2 the key's account
-- ARGV 1 day, 2 now in ms or empty
-- Returns the result of `usage_snapshot` in bucket.lua.
-- A script, so that the arithmetic of the bucket is written once.
local day = tonumber(ARGV[1])
return { usage_snapshot(load(KEYS[1], day), load(KEYS[2], day), clock(ARGV[2])) }

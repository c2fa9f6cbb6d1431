-- Removes the deadline of a lease that is gone.
--
-- KEYS 1 lease, 2 lease deadlines
-- ARGV 1 request
-- Returns there | gone.
-- A script, because a lease that is restored meanwhile keeps its deadline.
local text = redis.call('MGET', KEYS[1])[1]
-- A lease of an earlier version is no string.
if is_lease(text) or not text and redis.call('EXISTS', KEYS[1]) == 1 then
    return { 'there' }
end
redis.call('ZREM', KEYS[2], ARGV[1])
return { 'gone' }

-- Publishes the newest version of a user, so that gateways discard older ones.
--
-- KEYS 1 version of the user
-- ARGV 1 version
-- Returns published.
-- A script, because a version must not decrease when publications arrive out of order.
if whole(ARGV[1]) > whole(redis.call('GET', KEYS[1])) then
    redis.call('SET', KEYS[1], ARGV[1])
end
return { 'published' }

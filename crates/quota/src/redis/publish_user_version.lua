-- Publishes the newest version of a user, so that gateways discard older ones.
--
-- KEYS 1 version of the user
-- ARGV 1 version
-- Answers published.
-- A script, because versions only go up, in whatever order they arrive.
if whole(ARGV[1]) > whole(redis.call('GET', KEYS[1])) then
    redis.call('SET', KEYS[1], ARGV[1])
end
return { 'published' }

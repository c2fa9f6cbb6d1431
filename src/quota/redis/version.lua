-- Tells gateways the newest version of a user: what they know of older ones is out of date.
--
-- KEYS 1 version of the user
-- ARGV 1 version
-- Answers told.
-- A script, because versions only go up, whoever tells them last.
if whole(ARGV[1]) > whole(redis.call('GET', KEYS[1])) then
    redis.call('SET', KEYS[1], ARGV[1])
end
return { 'told' }

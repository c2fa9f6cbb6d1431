-- Takes charges out of the outbox that the ledger now has.
--
-- KEYS 1 outbox, 2 number of settlements in the ledger
-- ARGV 1 the highest number among them, 2.. their ids
-- Answers with how many were still there.
-- A script, because gateways forget charges by the number. It never goes back, nor is it raised by
-- a batch that is not all there: a server that was reset may give its numbers anew.
local gone = redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
if gone == #ARGV - 1 and whole(ARGV[1]) > whole(redis.call('GET', KEYS[2])) then
    redis.call('SET', KEYS[2], ARGV[1])
end
return { gone }

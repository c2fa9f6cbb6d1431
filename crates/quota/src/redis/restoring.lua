-- Announces that a gateway is still restoring the leases and charges it knows, or that it has finished; calls
-- are admitted only after that.
--
-- KEYS 1 gateways that are restoring
-- ARGV 1 gateway, 2 time limit in ms; 0 when it has finished
-- Returns announced.
-- A script, because Redis' own time decides when the gateway is presumed dead.
if ARGV[2] == '0' then
    redis.call('ZREM', KEYS[1], ARGV[1])
else
    redis.call('ZADD', KEYS[1], clock('') + ARGV[2], ARGV[1])
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return { 'announced' }

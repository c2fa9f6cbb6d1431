-- Acquires or renews a lock for a gateway, unless another has it.
--
-- KEYS 1 owner
-- ARGV 1 gateway, 2 lifetime in ms
-- Returns owned | other.
-- A script, because the check and the write must be one step.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
    return { 'other' }
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return { 'owned' }

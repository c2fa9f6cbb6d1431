-- Makes one gateway the writer of a partition for a while, unless another is.
--
-- KEYS 1 owner
-- ARGV 1 gateway, 2 for how long, in ms
-- Answers owned | other.
-- A script, because looking and taking must be one step.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
    return { 'other' }
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return { 'owned' }

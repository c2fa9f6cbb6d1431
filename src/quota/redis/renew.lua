-- Puts off the deadlines of calls that still run.
--
-- KEYS 1 lease deadlines
-- ARGV 1 now in ms or empty, 2 lease in ms, 3.. requests
-- Answers with the requests whose lease is gone.
-- A script, because a deadline may only be moved where there is one.
local deadline = clock(ARGV[1]) + ARGV[2]
local gone = {}
for place = 3, #ARGV do
    if redis.call('ZSCORE', KEYS[1], ARGV[place]) then
        redis.call('ZADD', KEYS[1], deadline, ARGV[place])
    else
        gone[#gone + 1] = ARGV[place]
    end
end
return gone

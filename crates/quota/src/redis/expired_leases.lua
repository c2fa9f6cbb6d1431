-- Finds calls with expired leases.
--
-- KEYS 1 lease deadlines
-- ARGV 1 now in ms or empty, 2 how many
-- Answers with the time it was, in ms, and the requests.
-- A script, because Redis' own time decides, and a cluster's nodes each have one.
local now = digits(clock(ARGV[1]))
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
table.insert(found, 1, now)
return found

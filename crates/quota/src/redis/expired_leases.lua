-- Finds calls with expired leases.
--
-- KEYS 1 lease deadlines
-- ARGV 1 now in ms or empty, 2 limit
-- Returns the current time in ms, and the requests.
-- A script, because Redis' own time decides, and each node of a cluster has its own.
local now = digits(clock(ARGV[1]))
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
table.insert(found, 1, now)
return found

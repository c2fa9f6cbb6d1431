-- Renews the leases of running calls, and records the tokens observed so far.
--
-- KEYS 1 lease deadlines, 2.. leases
-- ARGV 1 now in ms or empty, 2 lease in ms, 3.. for each lease its request, and the observed tokens
-- Returns the requests whose lease is gone.
-- A script, because only an existing deadline may be moved.
local deadline = clock(ARGV[1]) + ARGV[2]
local gone = {}
for place = 2, #KEYS do
    local request, observed = ARGV[2 * place - 1], ARGV[2 * place]
    if redis.call('ZSCORE', KEYS[1], request) and is_lease(redis.call('GETRANGE', KEYS[place], 0, 0)) then
        redis.call('ZADD', KEYS[1], deadline, request)
        redis.call('SETRANGE', KEYS[place], OBSERVED_AT, struct.pack('<d', tonumber(observed)))
    else
        gone[#gone + 1] = request
    end
end
return gone

-- Removes charges from the outbox that are in the ledger.
--
-- KEYS 1 outbox, 2 number of settlements in the ledger, 3 number of settlements
-- ARGV ids of the charges
-- Returns the number of charges that were in the outbox.
-- A script, because gateways drop charges by the number: all before the oldest that waits are in the ledger,
-- whichever gateway wrote them.
local removed = redis.call('XDEL', KEYS[1], unpack(ARGV))
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local written = whole(redis.call('GET', KEYS[3]))
if oldest then
    for place = 1, #oldest[2], 2 do
        if oldest[2][place] == 'n' then
            written = whole(oldest[2][place + 1]) - 1
        end
    end
end
if written > whole(redis.call('GET', KEYS[2])) then
    redis.call('SET', KEYS[2], digits(written))
end
return { removed }

-- Returns the state of a lease, for the gateway that ends it after its own has died.
--
-- KEYS 1 lease
-- Returns lease RESERVED OBSERVED CHARGE | gone.
-- A script, so that the layout of leases is in scripts, and not in the gateway.
local text = redis.call('MGET', KEYS[1])[1] or old_lease(KEYS[1])
if not is_lease(text) then
    return { 'gone' }
end
local reserved, _, _, _, observed, charge = decode_lease(text)
return { 'lease', reserved, observed, charge }

-- Returns a lease that an earlier version of the gateway stored as a hash, as a string; nil if there is none. Its
-- debits are lines of words: owner (`u` or `k`), resource, and its numbers. There is none any more once the longest
-- call of those gateways has ended, or their leases have expired.
local function old_lease(key)
    local found = redis.call('HMGET', key, 'reserved', 'expected', 'so_far', 'debits', 'charge')
    if not found[1] then
        return nil
    end
    local day, debits = 0, {}
    local resources = { window = WINDOW, request = REQUEST, tokens = TOKENS, stream = STREAM }
    for owner, resource, numbers in string.gmatch(found[4], '(%l) (%l+) ([^\n]+)') do
        local debit = { owner == 'u' and 1 or 2, resources[resource] }
        for number in string.gmatch(numbers, '%S+') do
            if string.find(number, '-', 1, true) then
                day = tonumber((string.gsub(number, '-', '')))
            else
                debit[#debit + 1] = tonumber(number)
            end
        end
        if resource == 'tokens' then
            -- Absent in debits of the earliest gateways.
            debit[SHARE], debit[LIKELY] = debit[SHARE] or 0, debit[LIKELY] or 0
        end
        debits[#debits + 1] = debit
    end
    local reserved, expected, observed = whole(found[1]), whole(found[2]), whole(found[3])
    return encode_lease(reserved, expected, observed, day, cmsgpack.pack(debits), found[5])
end

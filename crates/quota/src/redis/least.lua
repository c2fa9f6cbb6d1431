-- Returns the minimum of `measure` over the token debits.
local function least_of(debits, measure)
    local least = nil
    for place = 1, #debits do
        local debit = debits[place]
        if debit[RESOURCE] == TOKENS then
            local number = measure(debit)
            least = least and min(least, number) or number
        end
    end
    return least or 0
end

-- Reserves more tokens for a call. Returns how many of them were expected before.
local function reserve_more(debits, accounts, expected, added)
    local converted = min(expected, added)
    for place = 1, #debits do
        local debit = debits[place]
        if debit[RESOURCE] == TOKENS then
            local account = accounts[debit[OWNER]]
            account[RESERVED] = account[RESERVED] + added
            expect(account, -converted)
        end
    end
    return converted
end

-- Returns the minimum of `measure` over the token debits.
local function least_of(debits, measure)
    local least = nil
    for place = 1, #debits do
        local debit = debits[place]
        if debit.what == 'tokens' then
            local number = measure(debit)
            least = least and min(least, number) or number
        end
    end
    return least or 0
end

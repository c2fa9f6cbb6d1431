-- Releases the reservation of a lease and its expected usage, and charges the used tokens. The window keeps its
-- request. Returns the tokens charged beyond a limit.
local function release(debits, accounts, reserved, expected, used, counted)
    local overshoot = 0
    for place = 1, #debits do
        local debit = debits[place]
        local account, resource = accounts[debit[OWNER]], debit[RESOURCE]
        if resource == REQUEST then
            if not counted then
                account[REQUESTS] = max(account[REQUESTS] - 1, 0)
            end
            account[OPEN] = max(account[OPEN] - 1, 0)
            if account[OPEN] == 0 then
                -- Nothing runs that could use it.
                account[EXPECTED] = 0
            end
        elseif resource == TOKENS then
            account[RESERVED] = max(account[RESERVED] - reserved, 0)
            expect(account, -expected)
            account[USED] = max(account[USED] + used, 0)
            local past = max(account[USED] + account[RESERVED] - debit[LIMIT], 0)
            overshoot = max(overshoot, min(max(used - reserved, 0), past))
        elseif resource == STREAM then
            account[STREAMS] = max(account[STREAMS] - 1, 0)
        end
    end
    return overshoot
end

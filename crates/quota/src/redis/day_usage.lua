-- Returns the usage of accounts on a day, without calls that are running.
--
-- KEYS accounts
-- ARGV 1 day
-- Returns for each account its tokens and requests, or -1 and -1 if it does not have the day.
-- A script, so that the layout of accounts is in scripts, and not in the gateway.
local day, found = tonumber(ARGV[1]), {}
for place = 1, #KEYS do
    local account = load(KEYS[place], day)
    found[2 * place - 1] = account.has_day and account[USED] or -1
    found[2 * place] = account.has_day and max(account[REQUESTS] - account[OPEN], 0) or -1
end
return found

-- Resets a user's day: usage becomes 0, calls in flight keep their reservations.
--
-- KEYS 1 tombstone of the reset, 2 epoch, 3 outbox, 4 number of settlements, 5 the user's account,
--      6.. accounts of the user's keys
-- ARGV 1 tombstone in ms, 2 day, 3.. for each key its adjustment as JSON, up to the numbers
-- Returns removed TOKENS REQUESTS | rebuild.
-- A script, because accounts and adjustments must change together; sent again it returns the same.
local done = redis.call('GET', KEYS[1])
if done then
    local tokens, requests = string.match(done, '^(%d+) (%d+)$')
    return { 'removed', tonumber(tokens), tonumber(requests) }
elseif redis.call('EXISTS', KEYS[2]) == 0 then
    return { 'rebuild' }
end

local day, tokens, requests = tonumber(ARGV[2]), 0, 0
for place = 6, #KEYS do
    local account = load(KEYS[place], day)
    local used, open = account[USED], account[OPEN]
    local settled = max(account[REQUESTS] - open, 0)
    if used > 0 or settled > 0 then
        account[USED], account[REQUESTS] = 0, open
        save(account)
        tokens, requests = tokens + used, requests + settled
        local adjustment = ARGV[place - 3]
            .. '"tokens":' .. digits(0 - used) .. ',"requests":' .. digits(0 - settled) .. '}'
        local number = redis.call('INCR', KEYS[4])
        redis.call('XADD', KEYS[3], '*', 'adjust', adjustment, 'n', number)
    end
end
if tokens > 0 or requests > 0 then
    local user = load(KEYS[5], day)
    user[USED] = max(user[USED] - tokens, 0)
    user[REQUESTS] = max(user[REQUESTS] - requests, 0)
    save(user)
end
redis.call('SET', KEYS[1], digits(tokens) .. ' ' .. digits(requests), 'PX', ARGV[1])
return { 'removed', tokens, requests }

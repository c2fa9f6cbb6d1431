-- Ends a lease: the used tokens are charged, the rest is returned, and the charge goes to the outbox.
--
-- KEYS 1 lease, 2 tombstone of an earlier version, 3 the user's account, 4 the key's account, 5 lease deadlines,
--      6 outbox, 7 number of settlements, 8 epoch, 9 accounts of the day
-- ARGV 1 request, 2 tokens used, 3 1 if it counts as a request, 4 charge, 5 tombstone in ms,
--      6 day, 7 1 if the call ended recently, 8 1 if it is an estimate, which the actual
--      charge may replace later, 9 empty; or the time, `now` or in ms: a lease is ended only if its deadline has
--      passed and its reservation is still the tokens that are charged
-- Returns settled OVERSHOOT NUMBER EPOCH | again NUMBER EPOCH | alive; EPOCH is empty if there is
--      none.
-- A script, because accounts and charge must change together; sent again it changes nothing.
local is_estimate, reaping = ARGV[8] == '1', ARGV[9] ~= ''
local used, counted = whole(ARGV[2]), ARGV[3] == '1'
local known, user_text, key_text, last_number, epoch =
    unpack(redis.call('MGET', KEYS[1], KEYS[3], KEYS[4], KEYS[7], KEYS[8]))
local lease, ended = nil, nil
if is_lease(known) then
    lease = known
elseif known then
    ended = known
else
    lease = old_lease(KEYS[1])
    ended = redis.call('GET', KEYS[2])
end

-- Adds the charge to the outbox, with its number, by which the drainer reports its progress.
local function settled(overshoot)
    local number = redis.call('INCR', KEYS[7])
    redis.call('XADD', KEYS[6], '*', 'charge', ARGV[4], 'n', number)
    redis.call('SET', KEYS[1], is_estimate and ('reaped:' .. ARGV[2]) or 'settled', 'PX', ARGV[5])
    return { 'settled', overshoot, number, epoch or '' }
end

-- Charges the difference to an earlier charge, without a lease.
local function charge_accounts(tokens, requests)
    local accounts = accounts_of(tonumber(ARGV[6]), KEYS[3], user_text, KEYS[4], key_text)
    for _, account in ipairs(accounts) do
        account[USED] = max(account[USED] + tokens, 0)
        account[REQUESTS] = max(account[REQUESTS] + requests, 0)
    end
    save_both(accounts[1], accounts[2], KEYS[9])
end

if lease then
    local reserved, expected, day, debits = decode_lease(lease)
    if reaping then
        local deadline = redis.call('ZSCORE', KEYS[5], ARGV[1])
        local now = clock(ARGV[9] == 'now' and '' or ARGV[9])
        local is_late = not deadline or tonumber(deadline) <= now
        if not is_late or reserved ~= used then
            return { 'alive' }
        end
    end
    local accounts = accounts_of(day, KEYS[3], user_text, KEYS[4], key_text)
    local overshoot = release(cmsgpack.unpack(debits), accounts, reserved, expected, used, counted)
    save_both(accounts[1], accounts[2], KEYS[9])
    redis.call('ZREM', KEYS[5], ARGV[1])
    return settled(overshoot)
end

local estimate = ended and string.match(ended, '^reaped:(%d+)$')
if estimate and not is_estimate then
    -- Its gateway is alive: the actual charge replaces the estimate.
    charge_accounts(used - whole(estimate), counted and 0 or -1)
    return settled(0)
elseif ended and (is_estimate or ended ~= 'withdrawn') then
    return { 'again', whole(last_number), epoch or '' }
end

-- Redis lost the lease, and its part of the accounts. Without an epoch a rebuild restores that part from the
-- ledger. A call that ended long ago may have been charged before and its tombstone may have expired: then the
-- ledger alone decides.
if epoch and ARGV[7] == '1' then
    charge_accounts(used, counted and 1 or 0)
end
return settled(0)

-- Ends a lease: what was used is used, the rest is free again, and the charge is on its way.
--
-- KEYS 1 lease, 2 tombstone, 3 the user's account, 4 the key's account, 5 lease deadlines,
--      6 outbox, 7 number of settlements, 8 epoch
-- ARGV 1 request, 2 tokens used, 3 whether it counts as a request, 4 charge, 5 tombstone in ms,
--      6 day, 7 whether the call ended lately, 8 empty, or now in ms: the gateway is taken for dead,
--      if the lease's deadline has passed and it still holds just the tokens that are charged
-- Answers settled OVERSHOOT NUMBER | again NUMBER | alive.
-- A script, because counters and charge must change together; sent again it changes nothing.
local reaping = ARGV[8] ~= ''
local used, counted = whole(ARGV[2]), ARGV[3] == '1'
local lease = redis.call('HMGET', KEYS[1], 'reserved', 'debits')
local ended = redis.call('GET', KEYS[2])

local function answer(word, overshoot)
    local number = whole(redis.call('GET', KEYS[7]))
    if overshoot then
        return { word, overshoot, number }
    end
    return { word, number }
end

-- The number goes with the charge, so that the ledger's writer can say how far it has come.
local function send_off(mark)
    local number = redis.call('INCR', KEYS[7])
    redis.call('XADD', KEYS[6], '*', 'charge', ARGV[4], 'n', number)
    redis.call('SET', KEYS[2], mark, 'PX', ARGV[5])
end

-- Books the difference to what was booked before, without a lease.
local function book(tokens, requests)
    for _, name in ipairs({ KEYS[3], KEYS[4] }) do
        local account = load(name)
        add(account, ARGV[6], ':u', tokens)
        add(account, ARGV[6], ':q', requests)
        save(account)
    end
end

if lease[1] then
    if reaping then
        local deadline = redis.call('ZSCORE', KEYS[5], ARGV[1])
        local is_late = not deadline or tonumber(deadline) <= tonumber(ARGV[8])
        if not is_late or whole(lease[1]) ~= used then
            return { 'alive' }
        end
    end
    local user, key = load(KEYS[3]), load(KEYS[4])
    local overshoot = release(read_debits(lease[2], user, key), whole(lease[1]), used, counted)
    save(user)
    save(key)
    redis.call('DEL', KEYS[1])
    redis.call('ZREM', KEYS[5], ARGV[1])
    send_off(reaping and ('reaped:' .. ARGV[2]) or 'settled')
    return answer('settled', overshoot)
end

if reaping then
    redis.call('ZREM', KEYS[5], ARGV[1])
    return answer('again')
end

local estimate = ended and string.match(ended, '^reaped:(%d+)$')
if estimate then
    -- Its gateway lives after all: the real charge takes the place of the estimate.
    book(used - whole(estimate), counted and 0 or -1)
    send_off('settled')
    return answer('settled', 0)
elseif ended and ended ~= 'withdrawn' then
    return answer('again')
end

-- Redis lost the lease, and with it the counters' part in it. Without an epoch a rebuild brings
-- that part back from the ledger. A call that ended long ago may have been booked before, its
-- tombstone gone: then the ledger alone decides.
if redis.call('EXISTS', KEYS[8]) == 1 and ARGV[7] == '1' then
    book(used, counted and 1 or 0)
end
send_off('settled')
return answer('settled', 0)

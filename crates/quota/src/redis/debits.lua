-- Debits of a call on the accounts of its user and its key: arrays in MessagePack, as encoded by `debits` in
-- crates/quota/src/redis/codec.rs. The first two numbers are the owner and the resource; of a window follow its
-- capacity and the seconds to refill, of all others the limit, and of tokens four more.

local OWNER, RESOURCE, LIMIT = 1, 2, 3
local WINDOW, REQUEST, TOKENS, STREAM = 1, 2, 3, 4
local WINDOW_CAPACITY, WINDOW_SECONDS = 3, 4
local WANT, LEAST, SHARE, LIKELY = 4, 5, 6, 7

-- The accounts of a call by the owner of a debit, from the values of their keys.
local function accounts_of(day, user_key, user_text, key_key, key_text)
    return { decode_account(user_key, user_text, day), decode_account(key_key, key_text, day) }
end

-- Adds tokens that a call is expected to use beyond its reservation.
local function expect(account, number)
    account[EXPECTED] = max(account[EXPECTED] + number, 0)
end

-- Tokens that a call may still get: its own `expected` usage, and what no other call is expected to use.
local function free_tokens(debit, account, expected)
    local left = debit[LIMIT] - account[USED] - account[RESERVED]
    return min(max(left, 0), max(left - account[EXPECTED], 0) + expected)
end

-- Tokens that can be added to a call with so many `expected`: at most `want`, and at most the debit's share of
-- what is free, unless `least` is more.
local function addable(debit, account, expected, want, least)
    local free = free_tokens(debit, account, expected)
    local fair = free
    if debit[SHARE] > 0 then
        fair = max(floor(free / debit[SHARE]), least)
    end
    return min(free, want, fair)
end

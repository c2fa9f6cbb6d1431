-- Debits of a call on the accounts of its user and its key.

-- Parses one debit per line: owner (`u` or `k`), resource, and its numbers, as encoded by `debits` in
-- crates/quota/src/redis/codec.rs; all of one day. Returns the debits, and the accounts with their first `count`
-- fields; of the key only those of the day if no debit needs more.
local function read_debits(text, user_key, key_key, count)
    local debits, day, key_count = {}, '', OF_DAY
    local lines = string.gmatch(text, '(%l) (%l+) (%S+) ?(%d*) ?(%d*) ?(%d*) ?(%d*) ?(%d*)')
    for owner, what, first, second, want, least, share, likely in lines do
        local debit = { owner = owner, what = what }
        if what == 'tokens' then
            day, debit.limit = first, tonumber(second)
            debit.want, debit.least = tonumber(want), tonumber(least)
            -- Absent in debits of an older gateway: its calls are expected to use their minimum.
            debit.share, debit.likely = whole(share), whole(likely)
        elseif what == 'request' then
            day, debit.limit = first, tonumber(second)
        else
            if what == 'window' then
                debit.capacity, debit.seconds = tonumber(first), tonumber(second)
            else
                debit.limit = tonumber(first)
            end
            if owner == 'k' then
                key_count = count
            end
        end
        debits[#debits + 1] = debit
    end
    local names = fields(day)
    local user, key = load(user_key, names, count), load(key_key, names, key_count)
    for place = 1, #debits do
        local debit = debits[place]
        debit.account = debit.owner == 'u' and user or key
    end
    return debits, user, key
end

-- Adds tokens that a call is expected to use beyond its reservation.
local function expect(account, number)
    account[EXPECTED] = max(account[EXPECTED] + number, 0)
end

-- Tokens that a call may still get: its own `expected` usage, and what no other call is expected to use.
local function free_tokens(debit, expected)
    local account = debit.account
    local left = debit.limit - account[USED] - account[RESERVED]
    return min(max(left, 0), max(left - account[EXPECTED], 0) + expected)
end

-- Tokens that can be added to a call with so many `expected`: at most `want`, and at most the debit's share of
-- what is free, unless `least` is more.
local function addable(debit, expected, want, least)
    local free = free_tokens(debit, expected)
    local fair = free
    if debit.share > 0 then
        fair = max(floor(free / debit.share), least)
    end
    return min(free, want, fair)
end

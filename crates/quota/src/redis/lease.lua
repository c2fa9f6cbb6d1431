-- The lease of a running call, and the tombstone that replaces it, so that a repeated command changes nothing.
--
-- A lease is a string: a byte by which it is recognized; four doubles (tokens reserved, tokens that the call is
-- expected to use beyond those, tokens observed so far, the day as a number); the length of the debits; the debits;
-- and the charge if the gateway dies, as JSON. A tombstone is `settled`, `reaped:TOKENS` or `withdrawn`.
--
-- Only settle, lease_state, drop_deadline and correct read leases and tombstones of earlier versions: the other scripts
-- are for calls of the gateway that runs them.

local LEASE, LEASE_TAG, LEASE_BYTES = '<BddddI4', 1, 37
-- Where the numbers begin, counted from 0.
local RESERVED_AT, OBSERVED_AT = 1, 17

local function is_lease(text)
    return text and string.byte(text) == LEASE_TAG
end

local function encode_lease(reserved, expected, observed, day, debits, charge)
    return struct.pack(LEASE, LEASE_TAG, reserved, expected, observed, day, #debits) .. debits .. charge
end

-- Returns the tokens reserved, the tokens expected, the day, the debits, the tokens observed, and the charge.
local function decode_lease(text)
    local _, reserved, expected, observed, day, length = struct.unpack(LEASE, text)
    local charge = LEASE_BYTES + length + 1
    local debits = string.sub(text, LEASE_BYTES + 1, charge - 1)
    return reserved, expected, day, debits, observed, string.sub(text, charge)
end

local function change_lease(key, reserved, expected)
    redis.call('SETRANGE', key, RESERVED_AT, struct.pack('<dd', reserved, expected))
end

-- Functions for numbers and time, included in every script.

local function whole(text)
    return tonumber(text) or 0
end

local function digits(number)
    return string.format('%.0f', number)
end

-- Redis' own time in ms, unless the caller passes one.
local function clock(given)
    if given ~= '' then
        return tonumber(given)
    end
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

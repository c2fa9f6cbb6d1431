-- Returns a user's numbers without taking anything.
--
-- KEYS 1 the user's account, 2 the key's account
-- ARGV 1 day, 2 now in ms or empty
-- Answers as `standing` of bucket.lua does.
-- A script, so that the bucket's arithmetic stands in one place.
local names = fields(ARGV[1])
return { standing(load(KEYS[1], names, ALL), load(KEYS[2], names, OF_DAY), clock(ARGV[2])) }

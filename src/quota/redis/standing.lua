-- A user's numbers, for answers that take nothing.
--
-- KEYS 1 the user's account
-- ARGV 1 day, 2 now in ms or empty
-- Answers tokens used, reserved, requests, streams, window left (-1 = untouched), window full in ms.
-- A script, so that the bucket's arithmetic stands in one place.
return { standing(load(KEYS[1]), ARGV[1], clock(ARGV[2])) }

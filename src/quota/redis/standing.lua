-- A user's numbers, for answers that take nothing.
--
-- KEYS 1 the user's account, 2 the key's account
-- ARGV 1 day, 2 now in ms or empty
-- Answers as `standing` of book.lua does.
-- A script, so that the bucket's arithmetic stands in one place.
return { standing(load(KEYS[1]), load(KEYS[2]), ARGV[1], clock(ARGV[2])) }

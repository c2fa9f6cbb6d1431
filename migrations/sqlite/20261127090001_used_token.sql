-- Signed tokens in cookies, such as those of sign-ins in progress, are good once: the ones that were used, until they
-- expire.
create table used_token (
    -- Hash of the token.
    digest blob not null primary key check (length(digest) = 32),
    expires_at integer not null
) strict, without rowid;

-- Serves pruning.
create index used_token_by_expiry on used_token (expires_at);

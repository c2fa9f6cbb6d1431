-- E-mail addresses that an account gave up by deletion or for another address. Until the day has ended everywhere,
-- no other account may be registered with one: it would come with a fresh day's quota.
create table released_address (
    -- Hash of the address, keyed with the server's secret.
    digest bytea not null primary key check (length(digest) = 32),
    -- The account, which may take it back; it may be deleted.
    user_id uuid not null,
    reserved_until bigint not null
);

-- Serves pruning.
create index released_address_by_end on released_address (reserved_until);

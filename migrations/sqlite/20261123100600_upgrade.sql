-- Requests for another plan. Decided ones stay: they say who came to which plan when, and by whom.
create table upgrade (
    -- A UUIDv7: sorted by the time of asking.
    id blob not null primary key check (length(id) = 16),
    user_id blob not null references users (id),
    -- The user's plan at the time of asking.
    from_plan text not null references plan (id),
    to_plan text not null references plan (id),
    -- pending, approved, rejected or superseded.
    status text not null,
    asked_at integer not null,
    decided_at integer,
    -- user:ID, operator or gateway.
    decided_by text
) strict, without rowid;

-- A user has one pending request at most, however many ask at once.
create unique index upgrade_pending on upgrade (user_id) where status = 'pending';

-- Lists of one status, the newest first; those of any status go by the key.
create index upgrade_by_status on upgrade (status, id);

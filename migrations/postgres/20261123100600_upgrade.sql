-- Requests for another plan. Decided ones stay: they say who came to which plan when, and by whom.
create table upgrade (
    -- A UUIDv7: sorted by the time of asking.
    id uuid not null primary key,
    user_id uuid not null references users (id),
    -- The user's plan at the time of asking.
    from_plan text collate "C" not null references plan (id),
    to_plan text collate "C" not null references plan (id),
    -- pending, approved, rejected or superseded.
    status text not null,
    asked_at bigint not null,
    decided_at bigint,
    -- user:ID, operator or gateway.
    decided_by text
);

-- A user has one pending request at most, however many ask at once.
create unique index upgrade_pending on upgrade (user_id) where status = 'pending';

-- Lists of one status, the newest first; those of any status go by the key.
create index upgrade_by_status on upgrade (status, id);

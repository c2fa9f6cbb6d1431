-- Links that allow one act: verify an e-mail address, reset a password, accept an invitation, create the first
-- admin. A row ends with its link: at most one of a user and purpose.
create table one_time_link (
    id blob not null primary key check (length(id) = 16),
    -- Null for the first admin, who does not exist yet.
    user_id blob references users (id) on delete cascade,
    purpose text not null,
    -- Hash of the link's token, keyed with the server's secret and the purpose.
    digest blob not null check (length(digest) = 32),
    -- The address that it is for: the link ends when the user's becomes another. Null for the first admin.
    email text,
    created_at integer not null,
    -- Null = no end.
    expires_at integer
) strict, without rowid;

create unique index one_time_link_by_user on one_time_link (user_id, purpose);

-- Serves pruning.
create index one_time_link_by_expiry on one_time_link (expires_at);

-- Who may call. Named `users` because `user` is a reserved word elsewhere.
create table users (
    id blob not null primary key check (length(id) = 16),
    -- Normalised: trimmed and lower case.
    email text not null unique,
    username text,
    -- A PHC string; null = cannot log in.
    password_hash text,
    role text not null,
    status text not null,
    plan_id text not null references plan (id),
    -- Raised by every change that a call must notice; a lease is refused when it has moved on.
    version integer not null default 1,
    -- Taken from one rising sequence over all users, so that "who changed since" is one index scan.
    change_seq integer not null,
    created_at integer not null
) strict, without rowid;

-- Serves `changes` and the making of the next number.
create index users_by_change on users (change_seq);

-- A changed plan gives all its users a new version; also keeps the foreign key cheap.
create index users_by_plan on users (plan_id);

-- Who may call. Named `users` because `user` is a reserved word.
create table users (
    id uuid not null primary key,
    -- Normalised: trimmed and lower case.
    email text collate "C" not null unique,
    username text,
    -- A PHC string; null = cannot log in.
    password_hash text,
    role text not null,
    status text not null,
    plan_id text collate "C" not null references plan (id),
    -- Raised by every change that a call must notice; a lease is refused when it has moved on.
    version bigint not null default 1,
    -- Taken from one rising sequence over all users, so that "who changed since" is one index scan.
    change_seq bigint not null,
    created_at bigint not null
);

-- Serves `changes`.
create index users_by_change on users (change_seq);

-- A changed plan gives all its users a new version; also keeps the foreign key cheap.
create index users_by_plan on users (plan_id);

-- The last change number given out. Not a sequence: that gives out numbers before commit, so a
-- reader may see 8, remember it, and never see the 7 that commits later. Taking a number here locks
-- the row until commit, so numbers become visible in their order. Every change to users takes it
-- first, before any other row, so that changes queue here and cannot deadlock.
create table change_number (
    the_only boolean not null primary key default true check (the_only),
    last bigint not null
);

insert into change_number (last) values (0);

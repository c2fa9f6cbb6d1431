-- Keys: the keyed hash alone, never the key. Found by the public id that every key carries.
create table api_key (
    id text collate "C" not null primary key,
    user_id uuid not null references users (id),
    digest bytea not null check (length(digest) = 32),
    last_four text not null,
    name text not null,
    created_at bigint not null,
    expires_at bigint,
    revoked_at bigint,
    -- The key's own limits; null = the plan's alone.
    tokens_per_day bigint,
    requests_per_day bigint,
    -- A JSON array of catalog ids; null = every model of the plan.
    models text
);

create index api_key_by_user on api_key (user_id, created_at);

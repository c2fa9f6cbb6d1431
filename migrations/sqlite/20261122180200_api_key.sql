-- Keys: the keyed hash alone, never the key. Found by the public id that every key carries.
create table api_key (
    id text not null primary key,
    user_id blob not null references users (id),
    digest blob not null check (length(digest) = 32),
    last_four text not null,
    name text not null,
    created_at integer not null,
    expires_at integer,
    revoked_at integer,
    -- The key's own limits; null = the plan's alone.
    tokens_per_day integer,
    requests_per_day integer,
    -- A JSON array of catalog ids; null = every model of the plan.
    models text
) strict, without rowid;

create index api_key_by_user on api_key (user_id, created_at);

-- Whose the replies are that upstreams keep. A row ends with its time, or when the reply is deleted.
create table kept_reply (
    -- The upstream's name for it.
    id text not null primary key,
    user_id uuid not null references users (id),
    upstream text not null,
    model text not null,
    -- What a call that goes on from it reads again, or what fetching it has to reserve.
    tokens bigint not null,
    expires_at bigint not null,
    -- Until then somebody is fetching it, which can be done once; 0 = nobody.
    claimed_until bigint not null default 0
);

-- New rows take expired ones away.
create index kept_reply_by_expiry on kept_reply (expires_at);

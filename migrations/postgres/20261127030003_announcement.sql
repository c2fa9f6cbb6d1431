-- Lines that admins show to all callers for a time, such as a planned maintenance.
create table announcement (
    -- A UUIDv7: sorted by time.
    id uuid not null primary key,
    text text not null,
    -- info or warning.
    level text not null,
    starts_at bigint not null,
    -- Null = until it is deleted.
    ends_at bigint,
    -- user:ID or operator.
    created_by text not null,
    created_at bigint not null
);

-- Lines that admins show to all callers for a time, such as a planned maintenance.
create table announcement (
    -- A UUIDv7: sorted by time.
    id blob not null primary key check (length(id) = 16),
    text text not null,
    -- info or warning.
    level text not null,
    starts_at integer not null,
    -- Null = until it is deleted.
    ends_at integer,
    -- user:ID or operator.
    created_by text not null,
    created_at integer not null
) strict, without rowid;

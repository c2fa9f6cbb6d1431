-- Entries of the pipeline that could not be read or written for good, kept for a person to look at.
-- Nothing reads them back by itself.
create table usage_dead (
    -- SHA-256 of the entry as it came: burying it again changes nothing.
    id bytea primary key,
    -- Milliseconds since 1970.
    at bigint not null,
    why text not null,
    entry text not null
);

-- What a caller may use. A handful of rows, so plain columns and no index but the key.
--
-- Everywhere: ids that we make (users, requests) are uuid; ids that people type (plans, keys,
-- models) are text in byte order, so that lists come in the same order whatever the server's
-- locale. Times are integer milliseconds since 1970, as in the other dialect.
create table plan (
    id text collate "C" not null primary key,
    name text not null,
    price_cents bigint not null,
    tokens_per_day bigint not null check (tokens_per_day >= 0),
    requests_per_day bigint not null check (requests_per_day >= 0),
    window_capacity bigint not null,
    window_refill_seconds bigint not null,
    concurrent_streams bigint not null,
    -- A JSON array of catalog ids; null = every model.
    models text,
    -- An IANA name or a fixed offset.
    time_zone text not null
);

-- What a caller may use. A handful of rows, so plain columns and no index but the key.
--
-- Everywhere: ids that we make (users, requests) are 16-byte blobs, because the ledger and its
-- index hold them millions of times and a blob is half of the text and sorts by time (UUIDv7);
-- ids that people type (plans, keys, models) are text. Times are integer milliseconds since 1970.
create table plan (
    id text not null primary key,
    name text not null,
    price_cents integer not null,
    tokens_per_day integer not null check (tokens_per_day >= 0),
    requests_per_day integer not null check (requests_per_day >= 0),
    window_capacity integer not null,
    window_refill_seconds integer not null,
    concurrent_streams integer not null,
    -- A JSON array of catalog ids; null = every model.
    models text,
    -- An IANA name or a fixed offset.
    time_zone text not null
) strict, without rowid;

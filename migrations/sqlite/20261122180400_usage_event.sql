-- The ledger: one row for each settled call. A row never changes, except that the real charge of a
-- call once taken for dead replaces its estimate (status `abandoned`). The request id is the key, so
-- that repeating a write changes nothing. Without rowid, since rows are small and arrive almost in
-- the order of their ids: one tree to append to instead of two.
create table usage_event (
    request blob not null primary key check (length(request) = 16),
    user_id blob not null,
    key_id text not null,
    model text not null,
    -- Empty when no upstream was reached.
    upstream text not null,
    -- The day of admission in the plan's time zone, as YYYY-MM-DD.
    day text not null,
    admitted_at integer not null,
    prompt integer not null check (prompt >= 0),
    -- The part of `prompt` that came from the upstream's cache.
    cached integer not null check (cached >= 0),
    -- Visible output alone; `reasoning` is counted apart.
    completion integer not null check (completion >= 0),
    reasoning integer not null check (reasoning >= 0),
    cost_micro_dollars integer not null,
    status text not null,
    source text not null,
    -- 1 = counts against requests per day.
    counted integer not null,
    first_token_ms integer,
    total_ms integer not null
) strict, without rowid;

-- Checks and exports ask for a day, and within it for a user. Dashboards read the rollup instead.
create index usage_event_by_day on usage_event (day, user_id);

-- Corrections of what keys have used, beside the ledger, which says what was billed and never
-- changes: an admin began a user's day anew. What counts against a limit is the sum of both.
create table usage_adjustment (
    -- The reset, which may concern several keys: repeating a write changes nothing.
    reset blob not null check (length(reset) = 16),
    user_id blob not null,
    key_id text not null,
    day text not null,
    -- Added to what was used; negative for a reset.
    tokens integer not null,
    requests integer not null,
    at integer not null,
    -- Who did it.
    by text not null,
    primary key (reset, key_id)
) strict, without rowid;

create index usage_adjustment_by_day on usage_adjustment (day);

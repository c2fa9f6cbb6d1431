-- Corrections of what keys have used, beside the ledger, which says what was billed and never
-- changes: an admin began a user's day anew. What counts against a limit is the sum of both.
create table usage_adjustment (
    -- The reset, which may concern several keys: repeating a write changes nothing.
    reset uuid not null,
    user_id uuid not null,
    key_id text collate "C" not null,
    day date not null,
    -- Added to what was used; negative for a reset.
    tokens bigint not null,
    requests bigint not null,
    at bigint not null,
    -- Who did it.
    by text not null,
    primary key (reset, key_id)
);

create index usage_adjustment_by_day on usage_adjustment (day);

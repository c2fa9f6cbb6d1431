-- Leases lie in the journal beside the database from here on. Those that an earlier version left open are
-- charged with all they held, in the transaction in which their table goes: both happen, or neither.
insert into usage_event (
    request, user_id, key_id, model, upstream, day, admitted_at,
    prompt, cached, completion, reasoning, cost_micro_dollars,
    status, source, counted, first_token_ms, total_ms
)
select
    request, user_id, key_id, model, '', day, admitted_at,
    0, 0, reserved, 0, 0,
    'abandoned', 'estimated', 1, null, 0
from lease
where true
on conflict (request) do nothing;

drop table lease;

-- How far the ledger has each journal; written in the transaction of the entries before that position.
create table journal_mark (
    log blob not null primary key check (length(log) = 16),
    position integer not null,
    -- True for the journal that the ledger was last written from.
    is_latest integer not null
) without rowid;

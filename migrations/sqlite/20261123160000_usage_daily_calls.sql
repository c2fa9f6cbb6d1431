-- Dashboards ask how many calls there were, how many failed, how long they took and when the last
-- one was. The ledger is too large to be asked each time, so the rollup says it too.

-- All calls; `requests` has those that count against requests per day.
alter table usage_daily add column calls integer not null default 0;
-- Those that the upstream failed or cut.
alter table usage_daily add column failed integer not null default 0;
-- When the last of them was admitted, in milliseconds since 1970.
alter table usage_daily add column last_at integer not null default 0;
-- Calls by the milliseconds from admission to end: at most so many, and more than the one before.
alter table usage_daily add column took_50 integer not null default 0;
alter table usage_daily add column took_100 integer not null default 0;
alter table usage_daily add column took_250 integer not null default 0;
alter table usage_daily add column took_500 integer not null default 0;
alter table usage_daily add column took_1000 integer not null default 0;
alter table usage_daily add column took_2500 integer not null default 0;
alter table usage_daily add column took_5000 integer not null default 0;
alter table usage_daily add column took_10000 integer not null default 0;
alter table usage_daily add column took_30000 integer not null default 0;
alter table usage_daily add column took_60000 integer not null default 0;
alter table usage_daily add column took_300000 integer not null default 0;
alter table usage_daily add column took_longer integer not null default 0;

-- One user's days.
create index usage_daily_by_user on usage_daily (user_id, day);

-- What is there already, from the ledger; where that is gone, the best that is known.
update usage_daily set calls = requests, last_at = unixepoch(day) * 1000;

update usage_daily set
    calls = ledger.calls,
    failed = ledger.failed,
    last_at = ledger.last_at,
    took_50 = ledger.took_50,
    took_100 = ledger.took_100,
    took_250 = ledger.took_250,
    took_500 = ledger.took_500,
    took_1000 = ledger.took_1000,
    took_2500 = ledger.took_2500,
    took_5000 = ledger.took_5000,
    took_10000 = ledger.took_10000,
    took_30000 = ledger.took_30000,
    took_60000 = ledger.took_60000,
    took_300000 = ledger.took_300000,
    took_longer = ledger.took_longer
from (
    select
        day, user_id, key_id, model,
        count(*) as calls,
        sum(status in ('failed', 'cut_by_upstream')) as failed,
        max(admitted_at) as last_at,
        sum(total_ms <= 50) as took_50,
        sum(total_ms between 51 and 100) as took_100,
        sum(total_ms between 101 and 250) as took_250,
        sum(total_ms between 251 and 500) as took_500,
        sum(total_ms between 501 and 1000) as took_1000,
        sum(total_ms between 1001 and 2500) as took_2500,
        sum(total_ms between 2501 and 5000) as took_5000,
        sum(total_ms between 5001 and 10000) as took_10000,
        sum(total_ms between 10001 and 30000) as took_30000,
        sum(total_ms between 30001 and 60000) as took_60000,
        sum(total_ms between 60001 and 300000) as took_300000,
        sum(total_ms > 300000) as took_longer
    from usage_event
    group by day, user_id, key_id, model
) as ledger
where usage_daily.day = ledger.day
  and usage_daily.user_id = ledger.user_id
  and usage_daily.key_id = ledger.key_id
  and usage_daily.model = ledger.model;

drop trigger usage_event_into_daily;
drop trigger usage_event_changes_daily;

-- Fires for rows really inserted and for no other, so a repeated charge cannot be added twice and
-- no writer of the ledger can forget the rollup.
create trigger usage_event_into_daily after insert on usage_event
begin
    insert into usage_daily (
        day, user_id, key_id, model, requests, prompt, cached, completion, reasoning,
        cost_micro_dollars, calls, failed, last_at, took_50, took_100, took_250, took_500,
        took_1000, took_2500, took_5000, took_10000, took_30000, took_60000, took_300000,
        took_longer
    )
    values (
        new.day, new.user_id, new.key_id, new.model, new.counted, new.prompt, new.cached,
        new.completion, new.reasoning, new.cost_micro_dollars,
        1, new.status in ('failed', 'cut_by_upstream'), new.admitted_at,
        new.total_ms <= 50,
        new.total_ms between 51 and 100,
        new.total_ms between 101 and 250,
        new.total_ms between 251 and 500,
        new.total_ms between 501 and 1000,
        new.total_ms between 1001 and 2500,
        new.total_ms between 2501 and 5000,
        new.total_ms between 5001 and 10000,
        new.total_ms between 10001 and 30000,
        new.total_ms between 30001 and 60000,
        new.total_ms between 60001 and 300000,
        new.total_ms > 300000
    )
    on conflict (day, user_id, key_id, model) do update set
        requests = requests + excluded.requests,
        prompt = prompt + excluded.prompt,
        cached = cached + excluded.cached,
        completion = completion + excluded.completion,
        reasoning = reasoning + excluded.reasoning,
        cost_micro_dollars = cost_micro_dollars + excluded.cost_micro_dollars,
        calls = calls + excluded.calls,
        failed = failed + excluded.failed,
        last_at = max(last_at, excluded.last_at),
        took_50 = took_50 + excluded.took_50,
        took_100 = took_100 + excluded.took_100,
        took_250 = took_250 + excluded.took_250,
        took_500 = took_500 + excluded.took_500,
        took_1000 = took_1000 + excluded.took_1000,
        took_2500 = took_2500 + excluded.took_2500,
        took_5000 = took_5000 + excluded.took_5000,
        took_10000 = took_10000 + excluded.took_10000,
        took_30000 = took_30000 + excluded.took_30000,
        took_60000 = took_60000 + excluded.took_60000,
        took_300000 = took_300000 + excluded.took_300000,
        took_longer = took_longer + excluded.took_longer;
end;

-- The same for an estimate whose real charge came late: the estimate out, the charge in. Only
-- `last_at` stays, which the two share.
create trigger usage_event_changes_daily after update on usage_event
begin
    update usage_daily set
        requests = requests - old.counted,
        prompt = prompt - old.prompt,
        cached = cached - old.cached,
        completion = completion - old.completion,
        reasoning = reasoning - old.reasoning,
        cost_micro_dollars = cost_micro_dollars - old.cost_micro_dollars,
        calls = calls - 1,
        failed = failed - (old.status in ('failed', 'cut_by_upstream')),
        took_50 = took_50 - (old.total_ms <= 50),
        took_100 = took_100 - (old.total_ms between 51 and 100),
        took_250 = took_250 - (old.total_ms between 101 and 250),
        took_500 = took_500 - (old.total_ms between 251 and 500),
        took_1000 = took_1000 - (old.total_ms between 501 and 1000),
        took_2500 = took_2500 - (old.total_ms between 1001 and 2500),
        took_5000 = took_5000 - (old.total_ms between 2501 and 5000),
        took_10000 = took_10000 - (old.total_ms between 5001 and 10000),
        took_30000 = took_30000 - (old.total_ms between 10001 and 30000),
        took_60000 = took_60000 - (old.total_ms between 30001 and 60000),
        took_300000 = took_300000 - (old.total_ms between 60001 and 300000),
        took_longer = took_longer - (old.total_ms > 300000)
    where day = old.day and user_id = old.user_id and key_id = old.key_id and model = old.model;
    insert into usage_daily (
        day, user_id, key_id, model, requests, prompt, cached, completion, reasoning,
        cost_micro_dollars, calls, failed, last_at, took_50, took_100, took_250, took_500,
        took_1000, took_2500, took_5000, took_10000, took_30000, took_60000, took_300000,
        took_longer
    )
    values (
        new.day, new.user_id, new.key_id, new.model, new.counted, new.prompt, new.cached,
        new.completion, new.reasoning, new.cost_micro_dollars,
        1, new.status in ('failed', 'cut_by_upstream'), new.admitted_at,
        new.total_ms <= 50,
        new.total_ms between 51 and 100,
        new.total_ms between 101 and 250,
        new.total_ms between 251 and 500,
        new.total_ms between 501 and 1000,
        new.total_ms between 1001 and 2500,
        new.total_ms between 2501 and 5000,
        new.total_ms between 5001 and 10000,
        new.total_ms between 10001 and 30000,
        new.total_ms between 30001 and 60000,
        new.total_ms between 60001 and 300000,
        new.total_ms > 300000
    )
    on conflict (day, user_id, key_id, model) do update set
        requests = requests + excluded.requests,
        prompt = prompt + excluded.prompt,
        cached = cached + excluded.cached,
        completion = completion + excluded.completion,
        reasoning = reasoning + excluded.reasoning,
        cost_micro_dollars = cost_micro_dollars + excluded.cost_micro_dollars,
        calls = calls + excluded.calls,
        failed = failed + excluded.failed,
        last_at = max(last_at, excluded.last_at),
        took_50 = took_50 + excluded.took_50,
        took_100 = took_100 + excluded.took_100,
        took_250 = took_250 + excluded.took_250,
        took_500 = took_500 + excluded.took_500,
        took_1000 = took_1000 + excluded.took_1000,
        took_2500 = took_2500 + excluded.took_2500,
        took_5000 = took_5000 + excluded.took_5000,
        took_10000 = took_10000 + excluded.took_10000,
        took_30000 = took_30000 + excluded.took_30000,
        took_60000 = took_60000 + excluded.took_60000,
        took_300000 = took_300000 + excluded.took_300000,
        took_longer = took_longer + excluded.took_longer;
end;

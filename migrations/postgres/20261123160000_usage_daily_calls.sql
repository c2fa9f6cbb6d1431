-- Dashboards ask how many calls there were, how many failed, how long they took and when the last
-- one was. The ledger is too large to be asked each time, so the rollup says it too.
alter table usage_daily
    -- All calls; `requests` has those that count against requests per day.
    add column calls bigint not null default 0,
    -- Those that the upstream failed or cut.
    add column failed bigint not null default 0,
    -- When the last of them was admitted, in milliseconds since 1970.
    add column last_at bigint not null default 0,
    -- Calls by the milliseconds from admission to end: at most so many, and more than the one
    -- before.
    add column took_50 bigint not null default 0,
    add column took_100 bigint not null default 0,
    add column took_250 bigint not null default 0,
    add column took_500 bigint not null default 0,
    add column took_1000 bigint not null default 0,
    add column took_2500 bigint not null default 0,
    add column took_5000 bigint not null default 0,
    add column took_10000 bigint not null default 0,
    add column took_30000 bigint not null default 0,
    add column took_60000 bigint not null default 0,
    add column took_300000 bigint not null default 0,
    add column took_longer bigint not null default 0;

-- One user's days.
create index usage_daily_by_user on usage_daily (user_id, day);

-- What is there already, from the ledger; where that is gone, the best that is known.
update usage_daily set
    calls = requests,
    last_at = extract(epoch from day at time zone 'UTC') * 1000;

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
        count(*) filter (where status in ('failed', 'cut_by_upstream')) as failed,
        max(admitted_at) as last_at,
        count(*) filter (where total_ms <= 50) as took_50,
        count(*) filter (where total_ms between 51 and 100) as took_100,
        count(*) filter (where total_ms between 101 and 250) as took_250,
        count(*) filter (where total_ms between 251 and 500) as took_500,
        count(*) filter (where total_ms between 501 and 1000) as took_1000,
        count(*) filter (where total_ms between 1001 and 2500) as took_2500,
        count(*) filter (where total_ms between 2501 and 5000) as took_5000,
        count(*) filter (where total_ms between 5001 and 10000) as took_10000,
        count(*) filter (where total_ms between 10001 and 30000) as took_30000,
        count(*) filter (where total_ms between 30001 and 60000) as took_60000,
        count(*) filter (where total_ms between 60001 and 300000) as took_300000,
        count(*) filter (where total_ms > 300000) as took_longer
    from usage_event
    group by day, user_id, key_id, model
) as ledger
where usage_daily.day = ledger.day
  and usage_daily.user_id = ledger.user_id
  and usage_daily.key_id = ledger.key_id
  and usage_daily.model = ledger.model;

-- Fires once a statement, with the rows really inserted and no others, so a repeated charge cannot
-- be added twice and no writer of the ledger can forget the rollup. In the order of the key, so
-- that writers who meet wait for each other and do not deadlock.
create or replace function usage_event_into_daily() returns trigger
language plpgsql as $$
begin
    insert into usage_daily as so_far (
        day, user_id, key_id, model, requests, prompt, cached, completion, reasoning,
        cost_micro_dollars, calls, failed, last_at, took_50, took_100, took_250, took_500,
        took_1000, took_2500, took_5000, took_10000, took_30000, took_60000, took_300000,
        took_longer
    )
    select
        day, user_id, key_id, model,
        count(*) filter (where counted), sum(prompt), sum(cached),
        sum(completion), sum(reasoning), sum(cost_micro_dollars),
        count(*),
        count(*) filter (where status in ('failed', 'cut_by_upstream')),
        max(admitted_at),
        count(*) filter (where total_ms <= 50),
        count(*) filter (where total_ms between 51 and 100),
        count(*) filter (where total_ms between 101 and 250),
        count(*) filter (where total_ms between 251 and 500),
        count(*) filter (where total_ms between 501 and 1000),
        count(*) filter (where total_ms between 1001 and 2500),
        count(*) filter (where total_ms between 2501 and 5000),
        count(*) filter (where total_ms between 5001 and 10000),
        count(*) filter (where total_ms between 10001 and 30000),
        count(*) filter (where total_ms between 30001 and 60000),
        count(*) filter (where total_ms between 60001 and 300000),
        count(*) filter (where total_ms > 300000)
    from charged
    group by day, user_id, key_id, model
    order by day, user_id, key_id, model
    on conflict (day, user_id, key_id, model) do update set
        requests = so_far.requests + excluded.requests,
        prompt = so_far.prompt + excluded.prompt,
        cached = so_far.cached + excluded.cached,
        completion = so_far.completion + excluded.completion,
        reasoning = so_far.reasoning + excluded.reasoning,
        cost_micro_dollars = so_far.cost_micro_dollars + excluded.cost_micro_dollars,
        calls = so_far.calls + excluded.calls,
        failed = so_far.failed + excluded.failed,
        last_at = greatest(so_far.last_at, excluded.last_at),
        took_50 = so_far.took_50 + excluded.took_50,
        took_100 = so_far.took_100 + excluded.took_100,
        took_250 = so_far.took_250 + excluded.took_250,
        took_500 = so_far.took_500 + excluded.took_500,
        took_1000 = so_far.took_1000 + excluded.took_1000,
        took_2500 = so_far.took_2500 + excluded.took_2500,
        took_5000 = so_far.took_5000 + excluded.took_5000,
        took_10000 = so_far.took_10000 + excluded.took_10000,
        took_30000 = so_far.took_30000 + excluded.took_30000,
        took_60000 = so_far.took_60000 + excluded.took_60000,
        took_300000 = so_far.took_300000 + excluded.took_300000,
        took_longer = so_far.took_longer + excluded.took_longer;
    return null;
end;
$$;

-- The same for an estimate whose real charge came late: the difference, in the same transaction.
-- Only `last_at` stays, which the two share. Another writer's rows may be wanted in the other order
-- by these two triggers; Postgres then refuses one batch as a deadlock, and its writer repeats it.
create or replace function usage_event_changes_daily() returns trigger
language plpgsql as $$
begin
    -- It is called for every insertion too, which may have changed nothing.
    if not exists (select from charged) then
        return null;
    end if;
    insert into usage_daily as so_far (
        day, user_id, key_id, model, requests, prompt, cached, completion, reasoning,
        cost_micro_dollars, calls, failed, last_at, took_50, took_100, took_250, took_500,
        took_1000, took_2500, took_5000, took_10000, took_30000, took_60000, took_300000,
        took_longer
    )
    select
        day, user_id, key_id, model,
        sum(sign * counted::integer), sum(sign * prompt), sum(sign * cached),
        sum(sign * completion), sum(sign * reasoning), sum(sign * cost_micro_dollars),
        sum(sign),
        coalesce(sum(sign) filter (where status in ('failed', 'cut_by_upstream')), 0),
        max(admitted_at),
        coalesce(sum(sign) filter (where total_ms <= 50), 0),
        coalesce(sum(sign) filter (where total_ms between 51 and 100), 0),
        coalesce(sum(sign) filter (where total_ms between 101 and 250), 0),
        coalesce(sum(sign) filter (where total_ms between 251 and 500), 0),
        coalesce(sum(sign) filter (where total_ms between 501 and 1000), 0),
        coalesce(sum(sign) filter (where total_ms between 1001 and 2500), 0),
        coalesce(sum(sign) filter (where total_ms between 2501 and 5000), 0),
        coalesce(sum(sign) filter (where total_ms between 5001 and 10000), 0),
        coalesce(sum(sign) filter (where total_ms between 10001 and 30000), 0),
        coalesce(sum(sign) filter (where total_ms between 30001 and 60000), 0),
        coalesce(sum(sign) filter (where total_ms between 60001 and 300000), 0),
        coalesce(sum(sign) filter (where total_ms > 300000), 0)
    from (
        select 1 as sign, * from charged
        union all
        select -1 as sign, * from replaced
    ) as difference
    group by day, user_id, key_id, model
    order by day, user_id, key_id, model
    on conflict (day, user_id, key_id, model) do update set
        requests = so_far.requests + excluded.requests,
        prompt = so_far.prompt + excluded.prompt,
        cached = so_far.cached + excluded.cached,
        completion = so_far.completion + excluded.completion,
        reasoning = so_far.reasoning + excluded.reasoning,
        cost_micro_dollars = so_far.cost_micro_dollars + excluded.cost_micro_dollars,
        calls = so_far.calls + excluded.calls,
        failed = so_far.failed + excluded.failed,
        last_at = greatest(so_far.last_at, excluded.last_at),
        took_50 = so_far.took_50 + excluded.took_50,
        took_100 = so_far.took_100 + excluded.took_100,
        took_250 = so_far.took_250 + excluded.took_250,
        took_500 = so_far.took_500 + excluded.took_500,
        took_1000 = so_far.took_1000 + excluded.took_1000,
        took_2500 = so_far.took_2500 + excluded.took_2500,
        took_5000 = so_far.took_5000 + excluded.took_5000,
        took_10000 = so_far.took_10000 + excluded.took_10000,
        took_30000 = so_far.took_30000 + excluded.took_30000,
        took_60000 = so_far.took_60000 + excluded.took_60000,
        took_300000 = so_far.took_300000 + excluded.took_300000,
        took_longer = so_far.took_longer + excluded.took_longer;
    return null;
end;
$$;

-- The rollup: what the ledger adds up to. Counters start from it, dashboards read it.
create table usage_daily (
    day date not null,
    user_id uuid not null,
    key_id text collate "C" not null,
    model text collate "C" not null,
    -- Calls that count against requests per day.
    requests bigint not null,
    prompt bigint not null,
    cached bigint not null,
    completion bigint not null,
    reasoning bigint not null,
    cost_micro_dollars bigint not null,
    primary key (day, user_id, key_id, model)
)
-- The same few rows change all day long: room in their pages keeps the index out of it.
with (fillfactor = 50);

-- Fires once a statement, with the rows really inserted and no others, so a repeated charge cannot
-- be added twice and no writer of the ledger can forget the rollup. In the order of the key, so
-- that writers who meet wait for each other and do not deadlock.
create function usage_event_into_daily() returns trigger
language plpgsql as $$
begin
    insert into usage_daily as so_far (
        day, user_id, key_id, model,
        requests, prompt, cached, completion, reasoning, cost_micro_dollars
    )
    select
        day, user_id, key_id, model,
        count(*) filter (where counted), sum(prompt), sum(cached),
        sum(completion), sum(reasoning), sum(cost_micro_dollars)
    from charged
    group by day, user_id, key_id, model
    order by day, user_id, key_id, model
    on conflict (day, user_id, key_id, model) do update set
        requests = so_far.requests + excluded.requests,
        prompt = so_far.prompt + excluded.prompt,
        cached = so_far.cached + excluded.cached,
        completion = so_far.completion + excluded.completion,
        reasoning = so_far.reasoning + excluded.reasoning,
        cost_micro_dollars = so_far.cost_micro_dollars + excluded.cost_micro_dollars;
    return null;
end;
$$;

create trigger usage_event_into_daily after insert on usage_event
referencing new table as charged
for each statement execute function usage_event_into_daily();

-- The same for an estimate whose real charge came late: the difference, in the same transaction.
-- Another writer's rows may be wanted in the other order by these two triggers; Postgres then
-- refuses one batch as a deadlock, and its writer repeats it.
create function usage_event_changes_daily() returns trigger
language plpgsql as $$
begin
    insert into usage_daily as so_far (
        day, user_id, key_id, model,
        requests, prompt, cached, completion, reasoning, cost_micro_dollars
    )
    select
        day, user_id, key_id, model,
        sum(sign * counted::integer), sum(sign * prompt), sum(sign * cached),
        sum(sign * completion), sum(sign * reasoning), sum(sign * cost_micro_dollars)
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
        cost_micro_dollars = so_far.cost_micro_dollars + excluded.cost_micro_dollars;
    return null;
end;
$$;

create trigger usage_event_changes_daily after update on usage_event
referencing new table as charged old table as replaced
for each statement execute function usage_event_changes_daily();

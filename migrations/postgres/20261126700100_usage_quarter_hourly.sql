-- The rollup of a user's days by quarters of an hour, for the hours of a day in any time zone: zones
-- differ from UTC by quarters, and a day has the calls that were charged to it. It has the last days
-- only, which is what is shown, and takes the place of whole hours (UTC), of which the first and last
-- were shared by two days where zones differ by less.
create table usage_quarter_hourly (
    user_id uuid not null,
    day date not null,
    -- Of admission, counted from 1970 (UTC).
    quarter bigint not null,
    model text collate "C" not null,
    -- Calls that count against requests per day.
    requests bigint not null,
    calls bigint not null,
    -- Those that the upstream failed or cut.
    failed bigint not null,
    prompt bigint not null,
    cached bigint not null,
    completion bigint not null,
    reasoning bigint not null,
    cost_micro_dollars bigint not null,
    primary key (user_id, day, quarter, model)
)
-- The newest quarter's rows change all the time: room in their pages keeps the index out of it.
with (fillfactor = 50);

-- What the ledger has of them.
insert into usage_quarter_hourly (
    user_id, day, quarter, model, requests, calls, failed, prompt, cached, completion, reasoning,
    cost_micro_dollars
)
select
    user_id, day, admitted_at / 900000, model,
    count(*) filter (where counted), count(*), count(*) filter (where status in ('failed', 'cut_by_upstream')),
    sum(prompt), sum(cached), sum(completion), sum(reasoning), sum(cost_micro_dollars)
from usage_event
where day >= current_date - 7
group by 1, 2, 3, 4;

-- As for the days: see `usage_event_into_daily`.
create function usage_event_into_quarter_hourly() returns trigger
language plpgsql as $$
begin
    insert into usage_quarter_hourly as so_far (
        user_id, day, quarter, model, requests, calls, failed, prompt, cached, completion, reasoning,
        cost_micro_dollars
    )
    select
        user_id, day, admitted_at / 900000, model,
        count(*) filter (where counted), count(*),
        count(*) filter (where status in ('failed', 'cut_by_upstream')),
        sum(prompt), sum(cached), sum(completion), sum(reasoning), sum(cost_micro_dollars)
    from charged
    group by 1, 2, 3, 4
    order by 1, 2, 3, 4
    on conflict (user_id, day, quarter, model) do update set
        requests = so_far.requests + excluded.requests,
        calls = so_far.calls + excluded.calls,
        failed = so_far.failed + excluded.failed,
        prompt = so_far.prompt + excluded.prompt,
        cached = so_far.cached + excluded.cached,
        completion = so_far.completion + excluded.completion,
        reasoning = so_far.reasoning + excluded.reasoning,
        cost_micro_dollars = so_far.cost_micro_dollars + excluded.cost_micro_dollars;
    return null;
end;
$$;

create trigger usage_event_into_quarter_hourly after insert on usage_event
referencing new table as charged
for each statement execute function usage_event_into_quarter_hourly();

create function usage_event_changes_quarter_hourly() returns trigger
language plpgsql as $$
begin
    if not exists (select from charged) then
        return null;
    end if;
    insert into usage_quarter_hourly as so_far (
        user_id, day, quarter, model, requests, calls, failed, prompt, cached, completion, reasoning,
        cost_micro_dollars
    )
    select
        user_id, day, admitted_at / 900000, model,
        sum(sign * counted::integer), sum(sign),
        coalesce(sum(sign) filter (where status in ('failed', 'cut_by_upstream')), 0),
        sum(sign * prompt), sum(sign * cached), sum(sign * completion),
        sum(sign * reasoning), sum(sign * cost_micro_dollars)
    from (
        select 1 as sign, * from charged
        union all
        select -1 as sign, * from replaced
    ) as difference
    group by 1, 2, 3, 4
    order by 1, 2, 3, 4
    on conflict (user_id, day, quarter, model) do update set
        requests = so_far.requests + excluded.requests,
        calls = so_far.calls + excluded.calls,
        failed = so_far.failed + excluded.failed,
        prompt = so_far.prompt + excluded.prompt,
        cached = so_far.cached + excluded.cached,
        completion = so_far.completion + excluded.completion,
        reasoning = so_far.reasoning + excluded.reasoning,
        cost_micro_dollars = so_far.cost_micro_dollars + excluded.cost_micro_dollars;
    return null;
end;
$$;

create trigger usage_event_changes_quarter_hourly after update on usage_event
referencing new table as charged old table as replaced
for each statement execute function usage_event_changes_quarter_hourly();

drop trigger usage_event_into_hourly on usage_event;
drop trigger usage_event_changes_hourly on usage_event;
drop function usage_event_into_hourly();
drop function usage_event_changes_hourly();
drop table usage_hourly;

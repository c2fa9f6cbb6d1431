-- The rollup of a user's hours, for charts of the last days. Hours of admission, counted from 1970
-- (UTC) because a chart has its reader's zone and not the plan's.
create table usage_hourly (
    user_id blob not null,
    hour integer not null,
    model text not null,
    -- Calls that count against requests per day.
    requests integer not null,
    calls integer not null,
    -- Those that the upstream failed or cut.
    failed integer not null,
    prompt integer not null,
    cached integer not null,
    completion integer not null,
    reasoning integer not null,
    cost_micro_dollars integer not null,
    primary key (user_id, hour, model)
) strict, without rowid;

-- What the ledger has already.
insert into usage_hourly (
    user_id, hour, model, requests, calls, failed, prompt, cached, completion, reasoning,
    cost_micro_dollars
)
select
    user_id, admitted_at / 3600000, model,
    sum(counted), count(*), sum(status in ('failed', 'cut_by_upstream')),
    sum(prompt), sum(cached), sum(completion), sum(reasoning), sum(cost_micro_dollars)
from usage_event
group by 1, 2, 3;

-- As for the days: see `usage_event_into_daily`.
create trigger usage_event_into_hourly after insert on usage_event
begin
    insert into usage_hourly (
        user_id, hour, model, requests, calls, failed, prompt, cached, completion, reasoning,
        cost_micro_dollars
    )
    values (
        new.user_id, new.admitted_at / 3600000, new.model,
        new.counted, 1, new.status in ('failed', 'cut_by_upstream'),
        new.prompt, new.cached, new.completion, new.reasoning, new.cost_micro_dollars
    )
    on conflict (user_id, hour, model) do update set
        requests = requests + excluded.requests,
        calls = calls + excluded.calls,
        failed = failed + excluded.failed,
        prompt = prompt + excluded.prompt,
        cached = cached + excluded.cached,
        completion = completion + excluded.completion,
        reasoning = reasoning + excluded.reasoning,
        cost_micro_dollars = cost_micro_dollars + excluded.cost_micro_dollars;
end;

create trigger usage_event_changes_hourly after update on usage_event
begin
    update usage_hourly set
        requests = requests - old.counted,
        calls = calls - 1,
        failed = failed - (old.status in ('failed', 'cut_by_upstream')),
        prompt = prompt - old.prompt,
        cached = cached - old.cached,
        completion = completion - old.completion,
        reasoning = reasoning - old.reasoning,
        cost_micro_dollars = cost_micro_dollars - old.cost_micro_dollars
    where user_id = old.user_id and hour = old.admitted_at / 3600000 and model = old.model;
    insert into usage_hourly (
        user_id, hour, model, requests, calls, failed, prompt, cached, completion, reasoning,
        cost_micro_dollars
    )
    values (
        new.user_id, new.admitted_at / 3600000, new.model,
        new.counted, 1, new.status in ('failed', 'cut_by_upstream'),
        new.prompt, new.cached, new.completion, new.reasoning, new.cost_micro_dollars
    )
    on conflict (user_id, hour, model) do update set
        requests = requests + excluded.requests,
        calls = calls + excluded.calls,
        failed = failed + excluded.failed,
        prompt = prompt + excluded.prompt,
        cached = cached + excluded.cached,
        completion = completion + excluded.completion,
        reasoning = reasoning + excluded.reasoning,
        cost_micro_dollars = cost_micro_dollars + excluded.cost_micro_dollars;
end;

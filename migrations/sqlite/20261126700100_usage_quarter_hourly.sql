-- The rollup of a user's days by quarters of an hour, for the hours of a day in any time zone: zones
-- differ from UTC by quarters, and a day has the calls that were charged to it. It has the last days
-- only, which is what is shown, and takes the place of whole hours (UTC), of which the first and last
-- were shared by two days where zones differ by less.
create table usage_quarter_hourly (
    user_id blob not null,
    day text not null,
    -- Of admission, counted from 1970 (UTC).
    quarter integer not null,
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
    primary key (user_id, day, quarter, model)
) strict, without rowid;

-- What the ledger has of them.
insert into usage_quarter_hourly (
    user_id, day, quarter, model, requests, calls, failed, prompt, cached, completion, reasoning,
    cost_micro_dollars
)
select
    user_id, day, admitted_at / 900000, model,
    sum(counted), count(*), sum(status in ('failed', 'cut_by_upstream')),
    sum(prompt), sum(cached), sum(completion), sum(reasoning), sum(cost_micro_dollars)
from usage_event
where day >= date('now', '-7 days')
group by 1, 2, 3, 4;

-- As for the days: see `usage_event_into_daily`.
create trigger usage_event_into_quarter_hourly after insert on usage_event
begin
    insert into usage_quarter_hourly (
        user_id, day, quarter, model, requests, calls, failed, prompt, cached, completion, reasoning,
        cost_micro_dollars
    )
    values (
        new.user_id, new.day, new.admitted_at / 900000, new.model,
        new.counted, 1, new.status in ('failed', 'cut_by_upstream'),
        new.prompt, new.cached, new.completion, new.reasoning, new.cost_micro_dollars
    )
    on conflict (user_id, day, quarter, model) do update set
        requests = requests + excluded.requests,
        calls = calls + excluded.calls,
        failed = failed + excluded.failed,
        prompt = prompt + excluded.prompt,
        cached = cached + excluded.cached,
        completion = completion + excluded.completion,
        reasoning = reasoning + excluded.reasoning,
        cost_micro_dollars = cost_micro_dollars + excluded.cost_micro_dollars;
end;

create trigger usage_event_changes_quarter_hourly after update on usage_event
begin
    update usage_quarter_hourly set
        requests = requests - old.counted,
        calls = calls - 1,
        failed = failed - (old.status in ('failed', 'cut_by_upstream')),
        prompt = prompt - old.prompt,
        cached = cached - old.cached,
        completion = completion - old.completion,
        reasoning = reasoning - old.reasoning,
        cost_micro_dollars = cost_micro_dollars - old.cost_micro_dollars
    where user_id = old.user_id
      and day = old.day
      and quarter = old.admitted_at / 900000
      and model = old.model;
    insert into usage_quarter_hourly (
        user_id, day, quarter, model, requests, calls, failed, prompt, cached, completion, reasoning,
        cost_micro_dollars
    )
    values (
        new.user_id, new.day, new.admitted_at / 900000, new.model,
        new.counted, 1, new.status in ('failed', 'cut_by_upstream'),
        new.prompt, new.cached, new.completion, new.reasoning, new.cost_micro_dollars
    )
    on conflict (user_id, day, quarter, model) do update set
        requests = requests + excluded.requests,
        calls = calls + excluded.calls,
        failed = failed + excluded.failed,
        prompt = prompt + excluded.prompt,
        cached = cached + excluded.cached,
        completion = completion + excluded.completion,
        reasoning = reasoning + excluded.reasoning,
        cost_micro_dollars = cost_micro_dollars + excluded.cost_micro_dollars;
end;

drop trigger usage_event_into_hourly;
drop trigger usage_event_changes_hourly;
drop table usage_hourly;

-- The rollup: what the ledger adds up to. Counters start from it, dashboards read it.
create table usage_daily (
    day text not null,
    user_id blob not null,
    key_id text not null,
    model text not null,
    -- Calls that count against requests per day.
    requests integer not null,
    prompt integer not null,
    cached integer not null,
    completion integer not null,
    reasoning integer not null,
    cost_micro_dollars integer not null,
    primary key (day, user_id, key_id, model)
) strict, without rowid;

-- Fires for rows really inserted and for no other, so a repeated charge cannot be added twice and
-- no writer of the ledger can forget the rollup.
create trigger usage_event_into_daily after insert on usage_event
begin
    insert into usage_daily (
        day, user_id, key_id, model,
        requests, prompt, cached, completion, reasoning, cost_micro_dollars
    )
    values (
        new.day, new.user_id, new.key_id, new.model,
        new.counted, new.prompt, new.cached, new.completion, new.reasoning, new.cost_micro_dollars
    )
    on conflict (day, user_id, key_id, model) do update set
        requests = requests + excluded.requests,
        prompt = prompt + excluded.prompt,
        cached = cached + excluded.cached,
        completion = completion + excluded.completion,
        reasoning = reasoning + excluded.reasoning,
        cost_micro_dollars = cost_micro_dollars + excluded.cost_micro_dollars;
end;

-- The same for an estimate whose real charge came late: the estimate out, the charge in.
create trigger usage_event_changes_daily after update on usage_event
begin
    update usage_daily set
        requests = requests - old.counted,
        prompt = prompt - old.prompt,
        cached = cached - old.cached,
        completion = completion - old.completion,
        reasoning = reasoning - old.reasoning,
        cost_micro_dollars = cost_micro_dollars - old.cost_micro_dollars
    where day = old.day and user_id = old.user_id and key_id = old.key_id and model = old.model;
    insert into usage_daily (
        day, user_id, key_id, model,
        requests, prompt, cached, completion, reasoning, cost_micro_dollars
    )
    values (
        new.day, new.user_id, new.key_id, new.model,
        new.counted, new.prompt, new.cached, new.completion, new.reasoning, new.cost_micro_dollars
    )
    on conflict (day, user_id, key_id, model) do update set
        requests = requests + excluded.requests,
        prompt = prompt + excluded.prompt,
        cached = cached + excluded.cached,
        completion = completion + excluded.completion,
        reasoning = reasoning + excluded.reasoning,
        cost_micro_dollars = cost_micro_dollars + excluded.cost_micro_dollars;
end;

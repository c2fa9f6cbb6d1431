-- One batch of the journal. $1 leases, $2 extensions, $3 charges, $4 adjustments: JSON arrays (empty
-- ones too) of one array an entry, in the order that `lease_row`, `extension_row`, `charge_row` and
-- `adjustment_row` give them.
-- Answers with the requests in $1 that are not admitted.
-- Named parameters: sqlx counts numbered ones through all statements of a text, and loses gaps.
begin immediate;

-- Leases of active users whose version is still the one relied on.
insert into lease (request, user_id, key_id, version, model, day, reserved, admitted_at)
select
    unhex(entry.value ->> 0), users.id, entry.value ->> 2, users.version,
    entry.value ->> 4, entry.value ->> 5, entry.value ->> 6,
    entry.value ->> 7
from json_each($1) as entry
cross join users on users.id = unhex(entry.value ->> 1)
where users.version = entry.value ->> 3
  and users.status = 'active'
  -- A lease that was settled already must not come back when its opening is repeated.
  and not exists (
      select 1 from usage_event
      where usage_event.request = unhex(entry.value ->> 0)
  )
on conflict (request) do nothing;

-- A repeated or late extension never lowers what a call holds.
update lease set reserved = raised.reserved
from (
    select unhex(value ->> 0) as request, max(value ->> 1) as reserved
    from json_each($2)
    group by 1
) as raised
where lease.request = raised.request
  and lease.reserved < raised.reserved;

-- Ledger rows that are not there yet, and those that were only an estimate so far: of a dead gateway's
-- call, or counted here and now reported by the upstream. Triggers keep the rollup. Row by row: of several charges for one request the first that is no estimate stays.
insert into usage_event (
    request, user_id, key_id, model, upstream, day, admitted_at,
    prompt, cached, completion, reasoning, cost_micro_dollars,
    status, source, counted, first_token_ms, total_ms, client_request_id
)
select
    unhex(value ->> 0), unhex(value ->> 1), value ->> 2,
    value ->> 3, value ->> 4, value ->> 5, value ->> 6,
    value ->> 7, value ->> 8, value ->> 9,
    value ->> 10, value ->> 11, value ->> 12, value ->> 13,
    value ->> 14, value ->> 15, value ->> 16, value ->> 17
from json_each($3)
where true
on conflict (request) do update set
    user_id = excluded.user_id,
    key_id = excluded.key_id,
    model = excluded.model,
    upstream = excluded.upstream,
    day = excluded.day,
    admitted_at = excluded.admitted_at,
    prompt = excluded.prompt,
    cached = excluded.cached,
    completion = excluded.completion,
    reasoning = excluded.reasoning,
    cost_micro_dollars = excluded.cost_micro_dollars,
    status = excluded.status,
    source = excluded.source,
    counted = excluded.counted,
    first_token_ms = excluded.first_token_ms,
    total_ms = excluded.total_ms,
    -- A charge made from a lease alone does not know it.
    client_request_id = coalesce(excluded.client_request_id, client_request_id)
where (status = 'abandoned' and excluded.status <> 'abandoned')
   or (source = 'estimated' and excluded.source = 'reported');

delete from lease
where request in (select unhex(value ->> 0) from json_each($3));

insert into usage_adjustment (reset, user_id, key_id, day, tokens, requests, at, by)
select
    unhex(value ->> 0), unhex(value ->> 1), value ->> 2, value ->> 3,
    value ->> 4, value ->> 5, value ->> 6, value ->> 7
from json_each($4)
where true
on conflict (reset, key_id) do nothing;

-- Those that an earlier try had written are admitted, whether they still run or not.
with asked as (select unhex(value ->> 0) as request from json_each($1))
select request from asked
where not exists (select 1 from lease where lease.request = asked.request)
  and not exists (select 1 from usage_event where usage_event.request = asked.request);

commit;

-- One batch of the journal. $1 leases, $2 extensions, $3 charges: JSON arrays, empty ones too.
-- Answers with the requests in $1 that are not admitted.
-- Named parameters: sqlx counts numbered ones through all statements of a text, and loses gaps.
begin immediate;

-- Leases of active users whose version is still the one relied on.
insert into lease (request, user_id, key_id, version, model, day, reserved, admitted_at)
select
    unhex(entry.value ->> 'request'), users.id, entry.value ->> 'key', users.version,
    entry.value ->> 'model', entry.value ->> 'day', entry.value ->> 'reserved',
    entry.value ->> 'admitted_at'
from json_each($1) as entry
cross join users on users.id = unhex(entry.value ->> 'user')
where users.version = entry.value ->> 'version'
  and users.status = 'active'
  -- A lease that was settled already must not come back when its opening is repeated.
  and not exists (
      select 1 from usage_event
      where usage_event.request = unhex(entry.value ->> 'request')
  )
on conflict (request) do nothing;

-- A repeated or late extension never lowers what a call holds.
update lease set reserved = raised.reserved
from (
    select unhex(value ->> 'request') as request, max(value ->> 'reserved') as reserved
    from json_each($2)
    group by 1
) as raised
where lease.request = raised.request
  and lease.reserved < raised.reserved;

-- Ledger rows that are not there yet; a trigger adds them to the rollup.
insert into usage_event (
    request, user_id, key_id, model, upstream, day, admitted_at,
    prompt, cached, completion, reasoning, cost_micro_dollars,
    status, source, counted, first_token_ms, total_ms
)
select
    unhex(value ->> 'request'), unhex(value ->> 'user'), value ->> 'key',
    value ->> 'model', value ->> 'upstream', value ->> 'day', value ->> 'admitted_at',
    value ->> 'prompt', value ->> 'cached', value ->> 'completion',
    value ->> 'reasoning', value ->> 'cost', value ->> 'status', value ->> 'source',
    value ->> 'counted', value ->> 'first_token_ms', value ->> 'total_ms'
from json_each($3)
where true
on conflict (request) do nothing;

delete from lease
where request in (select unhex(value ->> 'request') from json_each($3));

-- Those that an earlier try had written are admitted, whether they still run or not.
with asked as (select unhex(value ->> 'request') as request from json_each($1))
select request from asked
where not exists (select 1 from lease where lease.request = asked.request)
  and not exists (select 1 from usage_event where usage_event.request = asked.request);

commit;

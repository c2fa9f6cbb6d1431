-- Charges of which the ledger may have some. $1: a JSON array of one array a charge, in the order in which `ChargeRow`
-- writes it. `jsonb_each` because `json_each` makes a text of an entry again for each column that is read from it.
--
-- Ledger rows that are not there yet, and those that are only estimates so far: charges of a dead gateway's
-- calls, or counted by the gateway and now reported by the upstream. Triggers update the rollups. Row by row: of
-- several charges for one request the first that is no estimate stays.
insert into usage_event (
    request, user_id, key_id, model, upstream, day, admitted_at,
    prompt, cached, completion, reasoning, cost_micro_dollars,
    status, source, counted, first_token_ms, total_ms, client_request_id, uncounted
)
select
    unhex(value ->> '$[0]'), unhex(value ->> '$[1]'), value ->> '$[2]',
    value ->> '$[3]', value ->> '$[4]', value ->> '$[5]', value ->> '$[6]',
    value ->> '$[7]', value ->> '$[8]', value ->> '$[9]',
    value ->> '$[10]', value ->> '$[11]', value ->> '$[12]', value ->> '$[13]',
    value ->> '$[14]', value ->> '$[15]', value ->> '$[16]', value ->> '$[17]',
    value ->> '$[18]'
from jsonb_each($1)
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
    uncounted = excluded.uncounted,
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

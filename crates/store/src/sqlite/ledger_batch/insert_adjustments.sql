-- $1: a JSON array of one array an adjustment, in the order in which `AdjustmentRow` writes it.
insert into usage_adjustment (reset, user_id, key_id, day, tokens, requests, at, by)
select
    unhex(value ->> '$[0]'), unhex(value ->> '$[1]'), value ->> '$[2]', value ->> '$[3]',
    value ->> '$[4]', value ->> '$[5]', value ->> '$[6]', value ->> '$[7]'
from jsonb_each($1)
where true
on conflict (reset, key_id) do nothing;

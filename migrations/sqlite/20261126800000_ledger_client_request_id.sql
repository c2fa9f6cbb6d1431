-- The caller's own `x-request-id`, at most 128 visible ASCII characters. Older rows have none.
alter table usage_event add column client_request_id text;

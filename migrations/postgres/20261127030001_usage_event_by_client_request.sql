-- Finds a user's calls by the `x-request-id` that their client sent. Calls without one are not in it.
create index usage_event_by_client_request
on usage_event (user_id, client_request_id, admitted_at, request)
where client_request_id is not null;

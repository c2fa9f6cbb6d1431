-- Who looks for what went wrong looks for few rows among very many. Calls that were completed, nearly
-- all, are not in it, so it costs them nothing.
create index usage_event_unusual on usage_event (user_id, status, admitted_at, request)
where status <> 'complete';

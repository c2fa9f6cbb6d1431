-- A user's newest rows, page by page: from where the last page ended.
create index usage_event_by_user on usage_event (user_id, admitted_at, request);

-- Checks and exports ask for a whole day. Users find theirs by the index above, so this one need not
-- be ordered by them: rows of a day are appended to it.
drop index usage_event_by_day;
create index usage_event_by_day on usage_event (day);

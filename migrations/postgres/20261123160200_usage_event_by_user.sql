-- A user's newest rows, page by page: from where the last page ended. A day needs no index, being a
-- partition. Partitions made from now on take theirs from here.
drop index usage_event_by_user;
create index usage_event_by_user on usage_event (user_id, admitted_at, request);

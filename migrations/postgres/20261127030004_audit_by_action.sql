-- Entries of one action, the newest first.
create index audit_by_action on audit (action, id);

-- The newest request of a user, which its plans page shows.
create index upgrade_by_user on upgrade (user_id, id);

-- A search by a part of a name reads all names. Here it reads them without the rest of the rows, in the
-- order of the pages.
create index users_names on users (id, email, username, plan_id, status, role);

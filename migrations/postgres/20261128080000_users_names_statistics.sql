-- The planner estimates how many users a search finds by matching the pattern with each entry of the columns' histograms.
-- With the default of 100 entries it sees no difference between 0.1 % and 1 % of the users: it then walks the primary key
-- until a page is full, which for a rare part of a name is most of the table.
alter table users alter column email set statistics 1000;
-- Without pg_trgm there is no such index.
alter index if exists users_names alter column 2 set statistics 1000;
analyze users;

-- The journal's statement is in the program here; in Postgres it is a function, which this replaces.
select 1;

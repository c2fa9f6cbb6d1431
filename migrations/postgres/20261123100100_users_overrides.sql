-- Limits of the user's own in place of the plan's, as a JSON object; null = the plan's alone. One
-- column, since nothing searches in it and limits of a new kind need no new column.
alter table users add column overrides text;

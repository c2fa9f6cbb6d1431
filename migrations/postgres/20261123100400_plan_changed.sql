-- An admin made the plan, or changed it: what the configuration says of it no longer counts.
alter table plan add column changed boolean not null default false;

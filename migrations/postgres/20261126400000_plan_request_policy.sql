-- What a plan's requests may ask for that tokens do not bound, as JSON; what is not in it has its default.
alter table plan add column request_policy text not null default '{}';

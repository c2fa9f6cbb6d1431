-- What a kept reply still owes: the call that made it, for as long as its charge is an estimate. Whoever reads
-- the reply first has that charge set right.
alter table kept_reply add column unsettled_call uuid;

-- Set once an upstream has given the id to two users, or two upstreams to one: which of them a reader means is
-- not known, so nobody may read it.
alter table kept_reply add column is_ambiguous boolean not null default false;

-- Nobody can come to a retired plan any more; those who have it keep it, so its row stays.
alter table plan add column retired integer not null default 0;

-- A response that an upstream stores is called what OpenAI calls it (`store: true`).
alter table kept_reply rename to stored_response;
alter table stored_response rename constraint kept_reply_pkey to stored_response_pkey;
alter table stored_response rename constraint kept_reply_user_id_fkey to stored_response_user_id_fkey;
alter index kept_reply_by_expiry rename to stored_response_by_expiry;

-- Gateways of the previous version may still run while they are replaced one by one. They read and write the
-- table through this view.
create view kept_reply as select * from stored_response;

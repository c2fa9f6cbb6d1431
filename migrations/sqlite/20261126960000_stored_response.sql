-- A response that an upstream stores is called what OpenAI calls it (`store: true`).
alter table kept_reply rename to stored_response;
drop index kept_reply_by_expiry;
create index stored_response_by_expiry on stored_response (expires_at);

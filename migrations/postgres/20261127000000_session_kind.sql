-- How a session proves itself: `api` by refresh tokens that rotate, `console` by a browser's cookie.
alter table session add column kind text not null default 'api';

-- The last use of the session (milliseconds), written at most once a minute; null = only since it began.
alter table session add column seen_at bigint;

-- The address and the program that began the session, for its owner to recognise it by.
alter table session add column address text;
alter table session add column user_agent text;

-- When the owner last proved who it is by password or second factor; null = when the session began.
alter table session add column confirmed_at bigint;

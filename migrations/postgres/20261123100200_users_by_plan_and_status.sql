-- Serves "how many users of each plan and status" without reading the users, and what the index it
-- replaces served: the users of a plan.
create index users_by_plan_and_status on users (plan_id, status);

drop index users_by_plan;

-- A call's receipt shows the adjustments of its user and day.
create index usage_adjustment_by_user on usage_adjustment (user_id, day);

//! Quota counters: in memory, in Redis, in a Redis Cluster and behind sentinels.

mod fixtures;
mod model_equivalence;
mod day_reset;
mod change_notifier;
mod redis_preflight;
mod redis_sentinel;
mod redis_demotion;
mod redis_bulk_traffic;
mod redis_data_loss;
mod redis_rebuild;
mod redis_layout;
mod redis_lost_reply;

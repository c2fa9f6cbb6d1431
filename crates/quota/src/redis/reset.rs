//! Resets a user's day in Redis.

use super::keys::Partition;
use super::{RedisQuota, TOMBSTONE_TTL, codec, milliseconds};
use crate::backend::{QuotaUnavailable, RemovedUsage, Reset};
use domain::id::KeyId;
use telemetry::labels::RedisOp;

impl RedisQuota {
    pub(super) async fn send_reset(&self, reset: &Reset) -> Result<RemovedUsage, QuotaUnavailable> {
        let at = Partition::of(reset.user);
        let mut keys =
            vec![at.reset(reset.id), at.epoch(), at.outbox(), at.settled(), at.user(reset.user)];
        keys.extend(reset.keys.iter().map(|key| at.key(reset.user, key)));
        let mut arguments = vec![milliseconds(TOMBSTONE_TTL), codec::day(reset.day)];
        arguments.extend(reset.keys.iter().map(|key| unnumbered(reset, key)));
        let script = &self.client.scripts.reset_day;
        let reply = self.client.run(RedisOp::Reset, script, &keys, &arguments).await?;
        codec::reset_reply(&reply)
    }
}

/// Returns the adjustment of a key as JSON without its numbers, which the script appends.
fn unnumbered(reset: &Reset, key: &KeyId) -> String {
    let adjustment = reset.adjustment(key, RemovedUsage::default());
    let mut members = serde_json::json!(adjustment);
    if let Some(members) = members.as_object_mut() {
        members.remove("tokens");
        members.remove("requests");
    }
    let text = members.to_string();
    text.strip_suffix('}').unwrap_or(&text).to_owned() + ","
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::charge::Adjustment;
    use domain::id::{RequestId, UserId};
    use jiff::Timestamp;

    #[test]
    fn with_numbers_it_is_an_adjustment() {
        let reset = Reset {
            id: RequestId::new(),
            user: UserId::new(),
            keys: Vec::new(),
            day: "2026-01-02".parse().unwrap(),
            at: Timestamp::UNIX_EPOCH,
            by: "user:\"}".to_owned(),
        };
        let key = KeyId::from("key");
        let text = unnumbered(&reset, &key) + r#""tokens":-7,"requests":0}"#;
        let adjustment: Adjustment = serde_json::from_str(&text).unwrap();
        assert_eq!(adjustment, reset.adjustment(&key, RemovedUsage { tokens: 7, requests: 0 }));
    }
}

//! Estimates the output length of calls that set no limit, from recent replies.
//!
//! Admission sets this much aside for a call ([`Demand::likely_output`]). The estimate is the 90th percentile of
//! recent replies to this user from this model, else to all users from this model; with fewer than [`MIN_REPLIES`]
//! replies the configured default applies. Whoever makes short calls could lower the estimate, then open many long
//! streams at once, and each of them would be cut with some tokens that are not charged. So replies may
//! raise it above the default at once, but lower it only after [`MIN_REPLIES_TO_LOWER`] replies to the same user,
//! and never below [`MIN_ESTIMATE`]; other users' replies never lower it. Each gateway learns by itself and starts
//! empty; memory is bounded by the number of users it remembers.
//!
//! [`Demand::likely_output`]: quota::rules::Demand::likely_output

use crate::gateway::call::histogram::Histogram;
use domain::id::{IdMap, UserId};
use parking_lot::RwLock;
use quick_cache::sync::Cache;
use std::sync::Arc;

/// One in this many responses may be longer.
const QUANTILE_ONE_IN: u16 = 10;
/// Minimum number of replies for an estimate.
const MIN_REPLIES: u16 = 8;
/// Replies to one user for an estimate below the default.
const MIN_REPLIES_TO_LOWER: u16 = 32;
/// The lowest estimate in tokens, unless the configured default is lower.
const MIN_ESTIMATE: u64 = 1_024;
/// Pairs of user and model that are remembered; each takes about 300 bytes.
const MAX_USER_MODELS: usize = 8_192;

/// A user's latest answers. Once halved, they are still [`MIN_REPLIES_TO_LOWER`].
type OfUser = Histogram<{ 2 * MIN_REPLIES_TO_LOWER + 8 }>;
/// Output lengths of a model's latest responses.
type OfModel = Histogram<2_000>;

/// The lengths by model, and by user and model.
#[derive(Debug)]
pub struct LengthEstimator {
    users: Cache<(UserId, Arc<str>), Arc<OfUser>>,
    models: RwLock<IdMap<Arc<str>, Arc<OfModel>>>,
}

/// Output tokens of one choice of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// The answer ended by itself.
    Whole(u64),
    /// It was cut here, by a limit or by the client: it would have been longer.
    AtLeast(u64),
}

impl Default for LengthEstimator {
    fn default() -> Self {
        Self { users: Cache::new(MAX_USER_MODELS), models: RwLock::default() }
    }
}

impl LengthEstimator {
    /// Notes an answer. One that was cut teaches only that answers are longer than was thought.
    pub fn record(&self, user: UserId, model: &Arc<str>, length: Length) {
        let of_user = self.users.get_or_insert_with(&(user, Arc::clone(model)), || {
            Ok::<_, std::convert::Infallible>(Arc::default())
        });
        let Ok(of_user) = of_user;
        record(&of_user, length);
        record(&self.model(model), length);
    }

    /// Output tokens that one choice is likely to stay within; `default` where too little is known.
    #[must_use]
    pub fn likely(&self, user: UserId, model: &Arc<str>, default: u64) -> u64 {
        let of_user = self.users.get(&(user, Arc::clone(model)));
        let is_known =
            of_user.as_ref().is_some_and(|of_user| of_user.count() >= MIN_REPLIES_TO_LOWER);
        let least = if is_known { MIN_ESTIMATE.min(default) } else { default };
        let learned = of_user.and_then(|of_user| enough(&of_user)).or_else(|| {
            let models = self.models.read();
            enough(models.get(model)?)
        });
        learned.unwrap_or(default).max(least)
    }

    fn model(&self, model: &Arc<str>) -> Arc<OfModel> {
        let known = self.models.read().get(model).cloned();
        known.unwrap_or_else(|| {
            let mut models = self.models.write();
            Arc::clone(models.entry(Arc::clone(model)).or_default())
        })
    }
}

fn record<const LATELY: u16>(histogram: &Histogram<LATELY>, length: Length) {
    match length {
        Length::Whole(tokens) => histogram.record(tokens),
        Length::AtLeast(tokens) if tokens > histogram.all_but(QUANTILE_ONE_IN) => {
            histogram.record(tokens);
        }
        Length::AtLeast(_) => {}
    }
}

fn enough<const LATELY: u16>(histogram: &Histogram<LATELY>) -> Option<u64> {
    (histogram.count() >= MIN_REPLIES).then(|| histogram.all_but(QUANTILE_ONE_IN))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: UserId = UserId(uuid::Uuid::from_u128(1));
    const THERE: UserId = UserId(uuid::Uuid::from_u128(2));
    const DEFAULT: u64 = 1_536;

    fn likely(lengths: &LengthEstimator, user: UserId) -> u64 {
        lengths.likely(user, &"m".into(), DEFAULT)
    }

    fn record(lengths: &LengthEstimator, user: UserId, times: u32, length: Length) {
        (0..times).for_each(|_| lengths.record(user, &"m".into(), length));
    }

    #[test]
    fn a_few_answers_say_nothing_and_many_all_but_one_in_ten() {
        let lengths = LengthEstimator::default();
        record(&lengths, HERE, 7, Length::Whole(4_000));
        assert_eq!(likely(&lengths, HERE), DEFAULT);
        record(&lengths, HERE, 1, Length::Whole(4_000));
        assert_eq!(likely(&lengths, HERE), 4_096);
        record(&lengths, HERE, 23, Length::Whole(1_200));
        assert_eq!(likely(&lengths, HERE), 4_096, "eight of 31 are more than one in ten");
        record(&lengths, HERE, 60, Length::Whole(1_200));
        assert_eq!(likely(&lengths, HERE), 1_280);
    }

    #[test]
    fn short_answers_lower_the_estimate_late_and_not_far() {
        let lengths = LengthEstimator::default();
        record(&lengths, HERE, 31, Length::Whole(5));
        assert_eq!(likely(&lengths, HERE), DEFAULT);
        for _ in 0..500 {
            record(&lengths, HERE, 1, Length::Whole(5));
            assert_eq!(likely(&lengths, HERE), MIN_ESTIMATE);
        }
        assert_eq!(lengths.likely(HERE, &"m".into(), 16), 16, "the operator's default is lower");
    }

    #[test]
    fn a_user_who_is_new_has_what_others_have_from_the_model_but_never_less_than_the_default() {
        let lengths = LengthEstimator::default();
        record(&lengths, HERE, 20, Length::Whole(2_000));
        assert_eq!(likely(&lengths, THERE), 2_048);
        record(&lengths, HERE, 1_000, Length::Whole(9));
        assert_eq!(likely(&lengths, THERE), DEFAULT);
        assert_eq!(lengths.likely(HERE, &"other".into(), DEFAULT), DEFAULT);
    }

    #[test]
    fn what_was_cut_teaches_no_short_answers() {
        let lengths = LengthEstimator::default();
        record(&lengths, HERE, 40, Length::Whole(2_000));
        record(&lengths, HERE, 500, Length::AtLeast(10));
        assert_eq!(likely(&lengths, HERE), 2_048);
        record(&lengths, HERE, 8, Length::AtLeast(3_000));
        assert_eq!(likely(&lengths, HERE), 3_072);
        let cut = LengthEstimator::default();
        record(&cut, HERE, 40, Length::AtLeast(5_000));
        assert_eq!(
            likely(&cut, HERE),
            DEFAULT,
            "one cut answer is noted, and it alone is too little"
        );
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let lengths = LengthEstimator::default();
        record(&lengths, HERE, 60, Length::Whole(8_000));
        record(&lengths, HERE, 400, Length::Whole(20));
        assert_eq!(likely(&lengths, HERE), MIN_ESTIMATE);
    }
}

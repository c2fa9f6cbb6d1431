//! Estimates the output length of calls that set no limit, from recent replies.
//!
//! Admission keeps this much free for a call ([`Need::likely_output`]). The estimate is the 90th percentile of
//! recent replies to this user from this model, else to all users from this model; with fewer than [`ENOUGH`]
//! replies the configured default applies. Each gateway learns by itself and starts empty; memory is bounded
//! by the number of users it remembers.
//!
//! [`Need::likely_output`]: crate::quota::rules::Need::likely_output

use super::histogram::Histogram;
use crate::account::id::UserId;
use quick_cache::sync::Cache;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Of so many answers, one may be longer.
const ONE_IN: u16 = 10;
/// Minimum number of replies for an estimate.
const ENOUGH: u16 = 8;
/// Pairs of user and model that are remembered; each takes about 300 bytes.
const PAIRS: usize = 8_192;

/// A user's latest answers.
type OfUser = Histogram<64>;
/// A model's latest answers.
type OfModel = Histogram<2_000>;

/// What was learned.
#[derive(Debug)]
pub struct Lengths {
    users: Cache<(UserId, Arc<str>), Arc<Mutex<OfUser>>>,
    models: Mutex<HashMap<Arc<str>, OfModel>>,
}

/// Output tokens of one choice of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// The answer ended by itself.
    Whole(u64),
    /// It was cut here, by a limit or by somebody: it would have been longer.
    AtLeast(u64),
}

impl Default for Lengths {
    fn default() -> Self {
        Self { users: Cache::new(PAIRS), models: Mutex::default() }
    }
}

impl Lengths {
    /// Notes an answer. One that was cut teaches only that answers are longer than was thought.
    pub fn note(&self, user: UserId, model: &Arc<str>, length: Length) {
        let of_user = self.users.get_or_insert_with(&(user, Arc::clone(model)), || {
            Ok::<_, std::convert::Infallible>(Arc::default())
        });
        let Ok(of_user) = of_user;
        note(&mut locked(&of_user), length);
        note(locked(&self.models).entry(Arc::clone(model)).or_default(), length);
    }

    /// Output tokens that one choice is likely to stay within; `None` = too little is known.
    #[must_use]
    pub fn likely(&self, user: UserId, model: &Arc<str>) -> Option<u64> {
        let of_user = self.users.get(&(user, Arc::clone(model)));
        of_user
            .and_then(|of_user| enough(&locked(&of_user)))
            .or_else(|| enough(locked(&self.models).get(model)?))
    }
}

fn note<const LATELY: u16>(histogram: &mut Histogram<LATELY>, length: Length) {
    match length {
        Length::Whole(tokens) => histogram.note(tokens),
        Length::AtLeast(tokens) if tokens > histogram.all_but(ONE_IN) => histogram.note(tokens),
        Length::AtLeast(_) => {}
    }
}

fn enough<const LATELY: u16>(histogram: &Histogram<LATELY>) -> Option<u64> {
    (histogram.count() >= ENOUGH).then(|| histogram.all_but(ONE_IN))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: UserId = UserId(uuid::Uuid::from_u128(1));
    const THERE: UserId = UserId(uuid::Uuid::from_u128(2));

    fn told(lengths: &Lengths, user: UserId) -> Option<u64> {
        lengths.likely(user, &"m".into())
    }

    fn note(lengths: &Lengths, user: UserId, times: u32, length: Length) {
        (0..times).for_each(|_| lengths.note(user, &"m".into(), length));
    }

    #[test]
    fn a_few_answers_say_nothing_and_many_all_but_one_in_ten() {
        let lengths = Lengths::default();
        note(&lengths, HERE, 7, Length::Whole(40));
        assert_eq!(told(&lengths, HERE), None);
        note(&lengths, HERE, 1, Length::Whole(40));
        assert_eq!(told(&lengths, HERE), Some(40));
        note(&lengths, HERE, 1, Length::Whole(4_000));
        assert_eq!(told(&lengths, HERE), Some(4_096), "one of nine is more than one in ten");
        note(&lengths, HERE, 11, Length::Whole(40));
        assert_eq!(told(&lengths, HERE), Some(40));
    }

    #[test]
    fn a_user_who_is_new_has_what_others_have_from_the_model() {
        let lengths = Lengths::default();
        note(&lengths, HERE, 20, Length::Whole(100));
        assert_eq!(told(&lengths, THERE), Some(112));
        note(&lengths, THERE, 8, Length::Whole(9));
        assert_eq!(told(&lengths, THERE), Some(10));
        assert_eq!(lengths.likely(HERE, &"other".into()), None);
    }

    #[test]
    fn what_was_cut_teaches_no_short_answers() {
        let lengths = Lengths::default();
        note(&lengths, HERE, 20, Length::Whole(1_000));
        note(&lengths, HERE, 500, Length::AtLeast(10));
        assert_eq!(told(&lengths, HERE), Some(1_024));
        note(&lengths, HERE, 8, Length::AtLeast(3_000));
        assert_eq!(told(&lengths, HERE), Some(3_072));
        let cut = Lengths::default();
        note(&cut, HERE, 40, Length::AtLeast(500));
        assert_eq!(told(&cut, HERE), None, "one cut answer is noted, and it alone is too little");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let lengths = Lengths::default();
        note(&lengths, HERE, 60, Length::Whole(8_000));
        note(&lengths, HERE, 400, Length::Whole(20));
        assert_eq!(told(&lengths, HERE), Some(20));
    }
}

use super::*;
use futures_util::FutureExt;

/// The users whose calls get the only permit, one after the other, when calls are queued in this order.
fn turns(users: &[UserId], order: &[usize]) -> Vec<usize> {
    let limiter = FairLimiter::new(1, 100);
    let mut permit = limiter.try_acquire();
    let mut queued: Vec<_> = order
        .iter()
        .map(|&user| (user, Box::pin(limiter.enqueue(users[user]).unwrap().permit())))
        .collect();
    let mut turns = Vec::new();
    while !queued.is_empty() {
        drop(permit.take());
        let at = queued.iter_mut().position(|(_, call)| {
            permit = call.now_or_never().flatten();
            permit.is_some()
        });
        turns.push(queued.remove(at.unwrap()).0);
    }
    turns
}

#[test]
fn each_users_first_call_comes_before_any_users_second() {
    let users = [UserId::new(), UserId::new(), UserId::new()];
    assert_eq!(turns(&users, &[0, 0, 0, 0, 1, 2, 1]), [0, 1, 2, 0, 1, 0, 0]);
}

#[test]
fn permits_and_queue_are_bounded() {
    let limiter = FairLimiter::new(2, 1);
    let user = UserId::new();
    let (first, second) = (limiter.try_acquire().unwrap(), limiter.try_acquire().unwrap());
    assert!(limiter.try_acquire().is_none());
    let queued = limiter.enqueue(user).unwrap();
    assert!(limiter.enqueue(user).is_none());
    assert_eq!(limiter.count(), (2, 1));
    drop(first);
    assert_eq!(limiter.count(), (2, 0), "handed on");
    drop(second);
    assert_eq!(limiter.count(), (1, 0));
    drop(queued);
    assert_eq!(limiter.count(), (0, 0), "a permit that no call took is free");
}

#[test]
fn a_call_that_leaves_the_queue_gives_up_its_turn() {
    let limiter = FairLimiter::new(1, 1);
    let (one, two) = (UserId::new(), UserId::new());
    let taken = limiter.try_acquire().unwrap();
    drop(limiter.enqueue(one).unwrap());
    let queued = limiter.enqueue(two).expect("the queue is empty again");
    drop(taken);
    let permit = queued.permit().now_or_never().flatten().unwrap();
    assert_eq!(limiter.count(), (1, 0));
    drop(permit);
    assert_eq!(limiter.count(), (0, 0));
}

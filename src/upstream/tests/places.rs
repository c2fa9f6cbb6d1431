use super::*;
use futures_util::FutureExt;

/// Whose turn it is, of calls that wait in this order of users, one place coming free after the other.
fn turns(users: &[UserId], order: &[usize]) -> Vec<usize> {
    let places = Places::new(1, 100);
    let mut taken = places.take();
    let mut tickets: Vec<_> = order
        .iter()
        .map(|&user| (user, Box::pin(places.queue(users[user]).unwrap().place())))
        .collect();
    let mut turns = Vec::new();
    while !tickets.is_empty() {
        drop(taken.take());
        let at = tickets.iter_mut().position(|(_, place)| {
            taken = place.now_or_never().flatten();
            taken.is_some()
        });
        turns.push(tickets.remove(at.unwrap()).0);
    }
    turns
}

#[test]
fn each_users_first_call_comes_before_anybodys_second() {
    let users = [UserId::new(), UserId::new(), UserId::new()];
    assert_eq!(turns(&users, &[0, 0, 0, 0, 1, 2, 1]), [0, 1, 2, 0, 1, 0, 0]);
}

#[test]
fn no_more_are_taken_and_queued_than_there_are() {
    let places = Places::new(2, 1);
    let user = UserId::new();
    let (first, second) = (places.take().unwrap(), places.take().unwrap());
    assert!(places.take().is_none());
    let ticket = places.queue(user).unwrap();
    assert!(places.queue(user).is_none());
    assert_eq!(places.count(), (2, 1));
    drop(first);
    assert_eq!(places.count(), (2, 0), "handed on");
    drop(second);
    assert_eq!(places.count(), (1, 0));
    drop(ticket);
    assert_eq!(places.count(), (0, 0), "a place that no call took is free");
}

#[test]
fn who_leaves_the_queue_gives_up_its_turn() {
    let places = Places::new(1, 1);
    let (one, two) = (UserId::new(), UserId::new());
    let taken = places.take().unwrap();
    drop(places.queue(one).unwrap());
    let ticket = places.queue(two).expect("the queue is empty again");
    drop(taken);
    let place = ticket.place().now_or_never().flatten().unwrap();
    assert_eq!(places.count(), (1, 0));
    drop(place);
    assert_eq!(places.count(), (0, 0));
}

//! Which server's secret the store is used with.

use super::sessions::{lives, open};
use super::{Any, add_user, at, by, new_key};
use domain::key::Pepper;
use domain::second_factor::{SEALED_BYTES, SealedSecret};
use domain::server_secret::ServerSecret;
use store::NewKey;
use store::second_factors::Enabling;
use store::sessions::{Rotated, Rotation, SecretAdoption, SessionClient};

fn secret(text: &str) -> ServerSecret {
    ServerSecret::of(&Pepper::new(text.as_bytes()))
}

async fn adopt(store: &Any, text: &str) -> SecretAdoption {
    store.adopt_secret(&secret(text), at(20)).await.unwrap()
}

pub async fn another_secret_ends_all_sessions(store: Any) {
    assert_eq!(adopt(&store, "one").await, SecretAdoption::First);
    let (ada, bob) = (add_user(&store, "a@b.c").await, add_user(&store, "b@b.c").await);
    let sessions = [open(&store, ada.id).await, open(&store, bob.id).await];
    let keys = ["live", "lasting", "revoked", "expired"].map(new_key);
    for (key, expires_at) in keys.iter().zip([Some(at(60)), None, None, Some(at(15))]) {
        let key = NewKey { expires_at, ..key.clone() };
        store.add_key(ada.id, &key, &by()).await.unwrap();
    }
    store.revoke_key(&keys[2].id, &by()).await.unwrap();

    assert_eq!(adopt(&store, "one").await, SecretAdoption::Same);
    assert!(lives(&store, sessions[0], at(20)).await && lives(&store, sessions[1], at(20)).await);
    let changed = |sessions| SecretAdoption::Changed { live_keys: 2, sessions, second_factors: 1 };
    let secret = SealedSecret([1; SEALED_BYTES]);
    assert!(store.begin_second_factor(ada.id, &secret, at(2)).await.unwrap());
    assert!(store.begin_second_factor(bob.id, &secret, at(2)).await.unwrap());
    let (user, session) = (bob.id, sessions[1]);
    let enabling = Enabling { user, secret, step: 1, recovery_codes: Vec::new(), session };
    assert!(store.enable_second_factor(&enabling, &by()).await.unwrap());
    assert_eq!(adopt(&store, "two").await, changed(2));
    assert!(!lives(&store, sessions[0], at(20)).await && !lives(&store, sessions[1], at(20)).await);
    assert_eq!(adopt(&store, "two").await, SecretAdoption::Same);
    assert_eq!(adopt(&store, "one").await, changed(0));
}

pub async fn sessions_from_before_the_first_secret_go_on(store: Any) {
    let ada = add_user(&store, "a@b.c").await;
    // Its token's digest, all ones, is what an earlier version stored: a hash without a key.
    let session = open(&store, ada.id).await;
    assert_eq!(adopt(&store, "one").await, SecretAdoption::First);
    let rotation = |presented| Rotation {
        session,
        presented,
        next: [2; 32],
        client: SessionClient::default(),
        now: at(30),
        expires_at: at(150),
    };
    let presented = secret("one").refresh_digest(&[1; 32]);
    let rotated = store.rotate_session(&rotation(presented)).await.unwrap();
    assert!(matches!(rotated, Rotated::Done(user) if user.id == ada.id));
}

pub async fn of_concurrent_first_starts_one_sets_the_secret(store: Any) {
    let (one, two) = (secret("one"), secret("one"));
    let started = tokio::join!(store.adopt_secret(&one, at(1)), store.adopt_secret(&two, at(1)));
    let mut started = [started.0.unwrap(), started.1.unwrap()];
    started.sort_by_key(|adopted| *adopted == SecretAdoption::Same);
    assert_eq!(started, [SecretAdoption::First, SecretAdoption::Same]);
}

pub async fn a_command_learns_which_secret_is_in_use(store: Any) {
    let (one, two) = (secret("one").fingerprint(), secret("two").fingerprint());
    let in_use = async |mine| store.secret_in_use(mine, at(1)).await.unwrap();
    let ada = add_user(&store, "a@b.c").await;
    assert_eq!(in_use(None).await, None);
    store.add_key(ada.id, &new_key("laptop"), &by()).await.unwrap();
    assert_eq!(in_use(Some(one)).await, None, "with which the keys were made is not known");
    adopt(&store, "two").await;
    assert_eq!(in_use(None).await, Some(two));
    assert_eq!(in_use(Some(one)).await, Some(two), "what is recorded stays");
}

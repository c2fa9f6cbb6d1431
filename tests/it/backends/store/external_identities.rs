//! Identities at sign-in providers: each belongs to one user, and what links one is checked where it is linked.

use super::second_factors::with_factor_of;
use super::sessions::{lives, open};
use super::{Any, add_user, at, by, new_key, new_user, plan, server_secret, suspend};
use domain::actor::AuditContext;
use domain::id::{LinkId, UserId};
use domain::one_time_link::{LinkDigest, LinkPurpose};
use domain::user::{Role, UserStatus};
use store::audit::AuditFilter;
use store::external_identities::{LinkBasis, Linking, NewIdentity, Unlinking};
use store::one_time_links::{NewLink, PresentedLink};
use store::{NewUser, UserChange, UserError, all_keys};
use uuid::Uuid;

const ISSUER: &str = "https://id.example";

fn identity(subject: &str) -> NewIdentity {
    let email = Some(format!("{subject}@id.example"));
    NewIdentity { issuer: ISSUER.to_owned(), subject: subject.to_owned(), email }
}

async fn link(store: &Any, user: UserId, subject: &str, basis: LinkBasis<'_>) -> Linking {
    store.link_identity(user, &identity(subject), basis, &by()).await.unwrap()
}

/// The user who signs in with the identity.
async fn user_of(store: &Any, subject: &str) -> Option<UserId> {
    let found = store.identity_user(ISSUER, subject).await.unwrap();
    found.map(|found| found.user.id)
}

/// The actions of the audit log about the user, the oldest first.
async fn actions(store: &Any, user: UserId) -> Vec<String> {
    let filter = AuditFilter { subject: Some(format!("user:{user}")), ..AuditFilter::default() };
    let entries = store.audit(&filter, None, 99).await.unwrap();
    entries.into_iter().rev().map(|entry| entry.action).collect()
}

async fn verify(store: &Any, user: UserId) {
    let change = UserChange { email_verified_at: Some(at(5)), ..UserChange::default() };
    store.change_user(user, &change, &by()).await.unwrap();
}

pub async fn an_identity_belongs_to_one_user(store: Any) {
    let (ada, bob) = (add_user(&store, "a@b.c").await.id, add_user(&store, "b@b.c").await.id);
    assert_eq!(user_of(&store, "s1").await, None);
    let linked = link(&store, ada, "s1", LinkBasis::Session).await;
    assert!(matches!(linked, Linking::Linked(found, true) if found.user.id == ada));
    let again = link(&store, ada, "s1", LinkBasis::Session).await;
    assert!(matches!(again, Linking::Linked(_, false)), "{again:?}");
    assert!(matches!(link(&store, bob, "s1", LinkBasis::Session).await, Linking::Taken));
    assert!(matches!(link(&store, ada, "s2", LinkBasis::Session).await, Linking::HasAnother));
    let elsewhere = NewIdentity { issuer: "https://other.example".to_owned(), ..identity("s1") };
    let linked = store.link_identity(bob, &elsewhere, LinkBasis::Session, &by()).await.unwrap();
    assert!(matches!(linked, Linking::Linked(_, true)), "the subject of another issuer");
    assert_eq!(user_of(&store, "s1").await, Some(ada));

    let identities = store.identities_of(ada).await.unwrap();
    assert_eq!(identities.len(), 1);
    let (found, expected) = (&identities[0], identity("s1"));
    assert_eq!((&found.issuer, &found.subject), (&expected.issuer, &expected.subject));
    assert_eq!((&found.email, found.linked_at, found.used_at), (&expected.email, by().at, None));
    store.record_identity_use(ISSUER, "s1", &AuditContext { at: at(20), ..by() }).await.unwrap();
    assert_eq!(store.identities_of(ada).await.unwrap()[0].used_at, Some(at(20)));
    store.record_identity_use(ISSUER, "unknown", &by()).await.unwrap();
    let expected = ["user.add", "external_identity.link", "external_identity.sign_in"];
    assert_eq!(actions(&store, ada).await, expected);
}

pub async fn of_concurrent_links_one_succeeds(store: Any) {
    let (ada, bob) = (add_user(&store, "a@b.c").await.id, add_user(&store, "b@b.c").await.id);
    let (one, two) = tokio::join!(
        link(&store, ada, "s1", LinkBasis::Session),
        link(&store, bob, "s1", LinkBasis::Session),
    );
    let linked = [&one, &two].into_iter().filter(|linking| matches!(linking, Linking::Linked(..)));
    assert_eq!(linked.count(), 1, "{one:?} {two:?}");
    let new = new_user("new@b.c", "basic");
    let (identity, secret, by) = (identity("s2"), server_secret(), by());
    let register = || store.register_with_identity(&new, &identity, &secret, &by);
    let (one, two) = tokio::join!(register(), register());
    assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1);
    let refused = one.and(two).unwrap_err();
    assert!(matches!(refused, UserError::EmailTaken), "{refused:?}");
}

pub async fn a_new_user_comes_with_the_identity_or_not_at_all(store: Any) {
    store.sync_plans(&[plan("basic")], &by()).await.unwrap();
    let secret = server_secret();
    let register = async |email: &str, subject: &str| {
        let new = NewUser { email_verified: true, ..new_user(email, "basic") };
        store.register_with_identity(&new, &identity(subject), &secret, &by()).await
    };
    let ada = register("a@b.c", "s1").await.unwrap();
    assert!(ada.email_verified_at.is_some());
    assert_eq!(user_of(&store, "s1").await, Some(ada.id));
    assert_eq!(actions(&store, ada.id).await, ["user.add", "external_identity.link"]);
    let refused = register("b@b.c", "s1").await;
    assert!(matches!(refused, Err(UserError::EmailTaken)), "{refused:?}");
    assert_eq!(store.user_by_email("b@b.c").await.unwrap(), None, "nor a user without it");
    let refused = register("a@b.c", "s2").await;
    assert!(matches!(refused, Err(UserError::EmailTaken)), "{refused:?}");
    assert_eq!(user_of(&store, "s2").await, None);
    store.erase_user(ada.id, &secret, &by()).await.unwrap();
    assert_eq!(user_of(&store, "s1").await, None, "erased with the user");
    assert!(store.identities_of(ada.id).await.unwrap().is_empty());
    let refused = register("a@b.c", "s1").await;
    assert!(matches!(refused, Err(UserError::AddressReserved(_))), "{refused:?}");
    assert_eq!(user_of(&store, "s1").await, None);
}

pub async fn a_verified_address_links_only_while_it_is_the_users(store: Any) {
    let ada = add_user(&store, "a@b.c").await.id;
    let by_email = LinkBasis::VerifiedEmail("a@b.c");
    assert!(matches!(link(&store, ada, "s1", by_email).await, Linking::Outdated), "unverified");
    verify(&store, ada).await;
    let other = LinkBasis::VerifiedEmail("b@b.c");
    assert!(matches!(link(&store, ada, "s1", other).await, Linking::Outdated));
    let take_over = LinkBasis::UnverifiedEmail("a@b.c");
    assert!(matches!(link(&store, ada, "s1", take_over).await, Linking::Outdated), "verified");
    suspend(&store, ada).await;
    for basis in [by_email, LinkBasis::Session] {
        assert!(matches!(link(&store, ada, "s1", basis).await, Linking::Outdated), "suspended");
    }
    let active = UserChange { status: Some(UserStatus::Active), ..UserChange::default() };
    store.change_user(ada, &active, &by()).await.unwrap();
    assert!(matches!(link(&store, ada, "s1", by_email).await, Linking::Linked(_, true)));
    let missing = link(&store, UserId::new(), "s3", LinkBasis::Session).await;
    assert!(matches!(missing, Linking::Outdated), "{missing:?}");
}

pub async fn a_take_over_leaves_nothing_of_who_registered(store: Any) {
    let user = add_user(&store, "owner@b.c").await.id;
    let password = UserChange { password_hash: Some("hash".into()), ..UserChange::default() };
    store.change_user(user, &password, &by()).await.unwrap();
    let key = store.add_key(user, &new_key("squatter"), &by()).await.unwrap();
    with_factor_of(&store, user).await;
    link(&store, user, "squatter", LinkBasis::Session).await;
    let session = store.sessions_of(user, at(2)).await.unwrap();
    assert!(session.is_empty());
    let before = store.changes(0).await.unwrap();

    let basis = LinkBasis::UnverifiedEmail("owner@b.c");
    let Linking::Linked(found, true) = link(&store, user, "owner", basis).await else {
        panic!("not linked")
    };
    assert_eq!((found.password_hash, found.user.email_verified_at), (None, Some(by().at)));
    let stored = store.credentials_of(user).await.unwrap().unwrap();
    assert_eq!((stored.password_hash, stored.user), (None, found.user));
    assert_eq!(user_of(&store, "squatter").await, None);
    assert_eq!(user_of(&store, "owner").await, Some(user));
    assert_eq!(store.second_factor(user).await.unwrap(), None);
    let keys = all_keys(&*store, user).await.unwrap();
    assert!(keys.iter().all(|key| key.revoked_at.is_some()), "{keys:?}");
    assert!(store.caller(&key.id).await.unwrap().unwrap().check(at(10)).is_err());
    let changes = store.changes(before.upto).await.unwrap().users;
    assert!(changes.iter().any(|changed| changed.user == user), "running calls end");
    let actions = actions(&store, user).await;
    assert!(actions.iter().any(|action| action == "external_identity.take_over"), "{actions:?}");
    assert!(actions.iter().any(|action| action == "external_identity.unlink"), "{actions:?}");
}

/// The operator adds a user with a key; the user's first sign-in is at the provider.
pub async fn a_take_over_keeps_the_key_that_an_admin_made(store: Any) {
    let user = add_user(&store, "added@b.c").await.id;
    let key = store.add_key(user, &new_key("handed over"), &by()).await.unwrap();
    let basis = LinkBasis::UnverifiedEmail("added@b.c");
    assert!(matches!(link(&store, user, "added", basis).await, Linking::Linked(_, true)));
    assert!(store.caller(&key.id).await.unwrap().unwrap().check(at(10)).is_ok());
}

pub async fn a_take_over_ends_sessions_and_spares_admins(store: Any) {
    let user = add_user(&store, "owner@b.c").await.id;
    let session = open(&store, user).await;
    let basis = LinkBasis::UnverifiedEmail("owner@b.c");
    link(&store, user, "taken", LinkBasis::Session).await;
    let other = add_user(&store, "other@b.c").await.id;
    let refused = link(&store, other, "taken", LinkBasis::UnverifiedEmail("other@b.c")).await;
    assert!(matches!(refused, Linking::Taken), "{refused:?}");
    assert_eq!(store.user(other).await.unwrap().unwrap().email_verified_at, None, "as it was");
    assert!(matches!(link(&store, user, "owner", basis).await, Linking::Linked(_, true)));
    assert!(!lives(&store, session, at(3)).await);

    for (role, email) in [(Role::Admin, "admin@b.c"), (Role::Auditor, "auditor@b.c")] {
        let added = NewUser { role, ..new_user(email, "basic") };
        let added = store.add_user(&added, &by()).await.unwrap();
        let refused = link(&store, added.id, "s9", LinkBasis::UnverifiedEmail(email)).await;
        assert!(matches!(refused, Linking::Outdated), "{refused:?}");
        assert_eq!(store.user(added.id).await.unwrap(), Some(added));
    }
}

pub async fn a_reset_of_an_unverified_account_unlinks_its_identities(store: Any) {
    for (is_verified, kept) in [(false, None), (true, Some(()))] {
        let email = format!("{is_verified}@b.c");
        let user = add_user(&store, &email).await.id;
        if is_verified {
            verify(&store, user).await;
        }
        link(&store, user, &email, LinkBasis::Session).await;
        let (id, purpose) = (LinkId::new(), LinkPurpose::ResetPassword);
        let digest = LinkDigest([7; 32]);
        let new = NewLink {
            id,
            purpose,
            digest,
            email: Some(email.clone()),
            created_at: at(1),
            expires_at: Some(at(100)),
        };
        store.add_link(user, &new, &by()).await.unwrap();
        let change = UserChange {
            password_hash: Some("new".into()),
            email_verified_at: Some(at(9)),
            ..UserChange::default()
        };
        let presented = PresentedLink { id, purpose, digest };
        store.redeem_link(&presented, &change, &by()).await.unwrap().unwrap();
        assert_eq!(user_of(&store, &email).await.map(drop), kept, "verified: {is_verified}");
    }
}

pub async fn the_only_way_in_is_not_unlinked(store: Any) {
    let user = add_user(&store, "a@b.c").await.id;
    let other = add_user(&store, "b@b.c").await.id;
    link(&store, user, "s1", LinkBasis::Session).await;
    let id = store.identities_of(user).await.unwrap()[0].id;
    let unlink = async |user: UserId, id: Uuid, issuer: Option<&str>| {
        store.unlink_identity(user, id, issuer, &by()).await.unwrap()
    };
    assert_eq!(unlink(other, id, Some(ISSUER)).await, Unlinking::Absent, "of another user");
    assert_eq!(unlink(user, Uuid::nil(), Some(ISSUER)).await, Unlinking::Absent);
    assert_eq!(unlink(user, id, Some(ISSUER)).await, Unlinking::OnlyWayIn);
    let password = UserChange { password_hash: Some("hash".into()), ..UserChange::default() };
    store.change_user(user, &password, &by()).await.unwrap();
    assert_eq!(unlink(user, id, Some(ISSUER)).await, Unlinking::Done);
    assert_eq!(unlink(user, id, Some(ISSUER)).await, Unlinking::Absent);
    assert_eq!(user_of(&store, "s1").await, None);
    assert_eq!(actions(&store, user).await.last().unwrap(), "external_identity.unlink");
    // One of a former provider is no way in.
    link(&store, other, "s2", LinkBasis::Session).await;
    let id = store.identities_of(other).await.unwrap()[0].id;
    assert_eq!(unlink(other, id, Some("https://new.example")).await, Unlinking::Done);
}

pub async fn a_token_is_used_once_and_pruned(store: Any) {
    let (one, other) = ([1; 32], [2; 32]);
    let (first, second) =
        tokio::join!(store.use_token(&one, at(100)), store.use_token(&one, at(100)));
    assert_eq!(usize::from(first.unwrap()) + usize::from(second.unwrap()), 1);
    assert!(store.use_token(&other, at(200)).await.unwrap());
    assert!(!store.use_token(&one, at(100)).await.unwrap());
    assert_eq!(store.prune(at(100)).await.unwrap(), 1);
    assert!(!store.use_token(&other, at(200)).await.unwrap(), "not expired");
}

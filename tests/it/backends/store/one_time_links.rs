//! One-time links.

use super::{Any, add_user, at, by, new_key, new_user, plan, second_factors, sessions, suspend};
use domain::id::{LinkId, UserId};
use domain::one_time_link::{LinkDigest, LinkPurpose};
use domain::user::{Role, User};
use jiff::Timestamp;
use store::audit::AuditFilter;
use store::one_time_links::{FirstAdmin, NewLink, PresentedLink, SetupState};
use store::{NewUser, StoreError, UserChange, UserError, all_keys};

const RESET: LinkPurpose = LinkPurpose::ResetPassword;
const VERIFY: LinkPurpose = LinkPurpose::VerifyEmail;

/// A link from the first second to the hundredth.
fn new_link(email: Option<&str>, purpose: LinkPurpose) -> NewLink {
    NewLink {
        id: LinkId::new(),
        purpose,
        digest: LinkDigest([7; 32]),
        email: email.map(str::to_owned),
        created_at: at(1),
        expires_at: email.map(|_| at(100)),
    }
}

fn presented(link: &NewLink) -> PresentedLink {
    PresentedLink { id: link.id, purpose: link.purpose, digest: link.digest }
}

async fn add(store: &Any, user: &User, purpose: LinkPurpose) -> PresentedLink {
    let link = new_link(Some(&user.email), purpose);
    store.add_link(user.id, &link, &by()).await.unwrap();
    presented(&link)
}

async fn is_open(store: &Any, link: &PresentedLink, now: Timestamp) -> bool {
    store.link_user(link, now).await.unwrap().is_some()
}

fn password(hash: &str) -> UserChange {
    UserChange { password_hash: Some(hash.to_owned()), ..UserChange::default() }
}

fn verified() -> UserChange {
    UserChange { email_verified_at: Some(at(9)), ..UserChange::default() }
}

pub async fn a_reset_of_an_unverified_account_removes_the_second_factor(store: Any) {
    let has_factor = async |user: UserId| store.second_factor(user).await.unwrap().is_some();
    let squatted = second_factors::with_factor(&store, "owner@b.c").await;
    let verified_user = second_factors::with_factor(&store, "verified@b.c").await;
    store.change_user(verified_user, &verified(), &by()).await.unwrap();
    for (user, purpose, keeps) in [(squatted, VERIFY, true), (verified_user, RESET, true)] {
        let user = store.user(user).await.unwrap().unwrap();
        let link = add(&store, &user, purpose).await;
        let change = UserChange::default();
        store.redeem_link(&link, &change, &by()).await.unwrap().unwrap();
        assert_eq!(has_factor(user.id).await, keeps, "{purpose:?}");
    }
    let user = store.user(squatted).await.unwrap().unwrap();
    assert_eq!(user.email_verified_at, None);
    let link = add(&store, &user, RESET).await;
    let change = UserChange { email_verified_at: Some(at(9)), ..password("new") };
    store.redeem_link(&link, &change, &by()).await.unwrap().unwrap();
    assert!(!has_factor(squatted).await, "the owner is not locked out");
}

pub async fn a_link_is_used_once_and_applies_its_change(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    assert_eq!(user.email_verified_at, None);
    let link = add(&store, &user, VERIFY).await;
    assert_eq!(store.link_user(&link, at(99)).await.unwrap().as_ref(), Some(&user));
    let changed = store.redeem_link(&link, &verified(), &by()).await.unwrap();
    let expected =
        User { email_verified_at: Some(at(9)), version: user.version + 1, ..user.clone() };
    assert_eq!(changed.as_ref(), Some(&expected));
    assert_eq!(store.user(user.id).await.unwrap(), changed);
    assert!(!is_open(&store, &link, at(9)).await);
    assert_eq!(store.redeem_link(&link, &verified(), &by()).await.unwrap(), None);
    assert_eq!(store.user(user.id).await.unwrap(), changed, "the second use changes nothing");
    // The holder acts, whoever calls.
    let filter =
        AuditFilter { subject: Some(format!("user:{}", user.id)), ..AuditFilter::default() };
    let entries = store.audit(&filter, None, 1).await.unwrap();
    assert_eq!(entries[0].actor, format!("user:{}", user.id));
    let shown =
        |value: &Option<serde_json::Value>| value.as_ref().unwrap()["email_verified"].clone();
    assert_eq!((shown(&entries[0].before), shown(&entries[0].after)), (false.into(), true.into()));
}

pub async fn a_reset_of_an_unverified_account_revokes_its_keys(store: Any) {
    let claimed = add_user(&store, "owner@b.c").await;
    store.change_user(claimed.id, &password("squatter's"), &by()).await.unwrap();
    let proven = add_user(&store, "proven@b.c").await;
    store.change_user(proven.id, &verified(), &by()).await.unwrap();
    for (user, left) in [(&claimed, 0), (&proven, 2)] {
        for name in ["one", "two"] {
            store.add_key(user.id, &new_key(name), &by()).await.unwrap();
        }
        let reset = add(&store, user, RESET).await;
        let change = UserChange { email_verified_at: Some(at(9)), ..password("new") };
        assert!(store.redeem_link(&reset, &change, &by()).await.unwrap().is_some());
        assert_eq!(live_keys(&store, user.id).await, left, "{}", user.email);
    }
}

/// The number of keys that are not revoked.
async fn live_keys(store: &Any, user: UserId) -> usize {
    let keys = all_keys(&**store, user).await.unwrap();
    keys.iter().filter(|key| key.revoked_at.is_none()).count()
}

pub async fn an_invitation_of_a_registered_unverified_account_takes_it_over(store: Any) {
    let registered = second_factors::with_factor(&store, "owner@b.c").await;
    store.change_user(registered, &password("squatter's"), &by()).await.unwrap();
    let proven = second_factors::with_factor(&store, "proven@b.c").await;
    let change = UserChange { email_verified_at: Some(at(9)), ..password("own") };
    store.change_user(proven, &change, &by()).await.unwrap();
    // Added by the operator, who made a key as well.
    let added = store.add_user(&new_user("added@b.c", "basic"), &by()).await.unwrap().id;
    for (id, is_taken_over, has_factor) in
        [(registered, true, true), (proven, false, true), (added, false, false)]
    {
        let user = store.user(id).await.unwrap().unwrap();
        store.add_key(id, &new_key("one"), &by()).await.unwrap();
        let invitation = add(&store, &user, LinkPurpose::Invitation).await;
        let change = UserChange { email_verified_at: Some(at(9)), ..password("new") };
        assert!(store.redeem_link(&invitation, &change, &by()).await.unwrap().is_some());
        assert_eq!(live_keys(&store, id).await, usize::from(!is_taken_over), "{}", user.email);
        let keeps_factor = store.second_factor(id).await.unwrap().is_some();
        assert_eq!(keeps_factor, has_factor && !is_taken_over, "{}", user.email);
    }
}

pub async fn only_the_right_token_purpose_and_time_open_a_link(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let link = add(&store, &user, RESET).await;
    let guessed = PresentedLink { digest: LinkDigest([8; 32]), ..link.clone() };
    let other_id = PresentedLink { id: LinkId::new(), ..link.clone() };
    let other_purpose = PresentedLink { purpose: VERIFY, ..link.clone() };
    for wrong in [&guessed, &other_id, &other_purpose] {
        assert!(!is_open(&store, wrong, at(9)).await, "{wrong:?}");
        assert_eq!(store.redeem_link(wrong, &password("x"), &by()).await.unwrap(), None);
    }
    assert!(!is_open(&store, &link, at(100)).await, "expired");
    let late = domain::actor::AuditContext { at: at(100), ..by() };
    assert_eq!(store.redeem_link(&link, &password("x"), &late).await.unwrap(), None);
    assert_eq!(store.credentials_of(user.id).await.unwrap().unwrap().password_hash, None);
    assert!(store.redeem_link(&link, &password("x"), &by()).await.unwrap().is_some());
}

pub async fn a_newer_link_of_the_same_purpose_ends_the_earlier(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let other = store.add_user(&new_user("d@e.f", "basic"), &by()).await.unwrap();
    let (first, verify) = (add(&store, &user, RESET).await, add(&store, &user, VERIFY).await);
    let others = add(&store, &other, RESET).await;
    let second = add(&store, &user, RESET).await;
    assert!(!is_open(&store, &first, at(9)).await);
    for open in [&second, &verify, &others] {
        assert!(is_open(&store, open, at(9)).await);
    }
}

pub async fn a_password_a_suspension_or_another_address_ends_links(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let other = store.add_user(&new_user("d@e.f", "basic"), &by()).await.unwrap();
    let others = add(&store, &other, RESET).await;
    let change = async |change: UserChange| {
        store.change_user(user.id, &change, &by()).await.unwrap().unwrap()
    };
    let unrelated = add(&store, &user, RESET).await;
    change(UserChange { username: Some(Some("ada".into())), ..UserChange::default() }).await;
    change(UserChange { email: Some("a@b.c".into()), ..UserChange::default() }).await;
    assert!(is_open(&store, &unrelated, at(9)).await);
    change(password("x")).await;
    assert!(!is_open(&store, &unrelated, at(9)).await, "a new password");

    let link = add(&store, &user, VERIFY).await;
    change(verified()).await;
    let moved = change(UserChange { email: Some("n@b.c".into()), ..UserChange::default() }).await;
    assert_eq!(moved.email_verified_at, None, "nobody has verified the new address");
    assert!(!is_open(&store, &link, at(9)).await, "another address");
    let outdated = store.add_link(user.id, &new_link(Some("a@b.c"), VERIFY), &by()).await;
    assert!(matches!(outdated, Err(StoreError::Missing(_))), "{outdated:?}");

    let link = add(&store, &moved, RESET).await;
    suspend(&store, user.id).await;
    assert!(!is_open(&store, &link, at(9)).await, "a suspension");
    let of_suspended = add(&store, &moved, RESET).await;
    assert_eq!(store.redeem_link(&of_suspended, &password("y"), &by()).await.unwrap(), None);
    assert!(is_open(&store, &others, at(9)).await);
}

pub async fn a_reset_ends_all_sessions_and_links(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let session = sessions::open(&store, user.id).await;
    let (reset, verify) = (add(&store, &user, RESET).await, add(&store, &user, VERIFY).await);
    let change = UserChange { email_verified_at: Some(at(9)), ..password("new") };
    let changed = store.redeem_link(&reset, &change, &by()).await.unwrap().unwrap();
    assert_eq!(changed.email_verified_at, Some(at(9)));
    assert!(!sessions::lives(&store, session, at(9)).await);
    assert!(!is_open(&store, &verify, at(9)).await);
}

pub async fn a_refused_change_leaves_the_link(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let named = NewUser { username: Some("ada".into()), ..new_user("d@e.f", "basic") };
    store.add_user(&named, &by()).await.unwrap();
    let link = add(&store, &user, LinkPurpose::Invitation).await;
    let taken = UserChange { username: Some(Some("ada".into())), ..password("x") };
    let refused = store.redeem_link(&link, &taken, &by()).await;
    assert!(matches!(refused, Err(UserError::UsernameTaken)), "{refused:?}");
    assert!(is_open(&store, &link, at(9)).await);
    assert!(store.redeem_link(&link, &password("x"), &by()).await.unwrap().is_some());
}

pub async fn of_concurrent_uses_one_succeeds(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    let link = add(&store, &user, VERIFY).await;
    let change = verified();
    let by = by();
    let uses = (0..8).map(|_| store.redeem_link(&link, &change, &by));
    let done = futures_util::future::join_all(uses).await;
    let succeeded = done.into_iter().filter(|done| done.as_ref().unwrap().is_some()).count();
    assert_eq!(succeeded, 1);
    assert_eq!(store.user(user.id).await.unwrap().unwrap().version, user.version + 1);
}

pub async fn expired_links_are_pruned(store: Any) {
    let user = add_user(&store, "a@b.c").await;
    add(&store, &user, VERIFY).await;
    assert!(store.replace_setup_link(&new_link(None, LinkPurpose::FirstAdmin)).await.unwrap());
    assert_eq!(store.prune(at(99)).await.unwrap(), 0);
    assert_eq!(store.prune(at(100)).await.unwrap(), 1, "the other has no end");
}

fn admin(email: &str) -> NewUser {
    NewUser { role: Role::Admin, email_verified: true, ..new_user(email, "basic") }
}

async fn setup_link(store: &Any) -> PresentedLink {
    store.sync_plans(&[plan("basic")], &by()).await.unwrap();
    let link = new_link(None, LinkPurpose::FirstAdmin);
    assert!(store.replace_setup_link(&link).await.unwrap());
    presented(&link)
}

pub async fn the_last_setup_link_creates_the_first_admin_once(store: Any) {
    let first = setup_link(&store).await;
    let second = setup_link(&store).await;
    for (link, expected) in [(&first, SetupState::InvalidLink), (&second, SetupState::Open)] {
        assert_eq!(store.setup_state(link).await.unwrap(), expected);
    }
    assert_eq!(store.link_user(&second, at(9)).await.unwrap(), None, "it is nobody's");
    assert_eq!(store.redeem_link(&second, &password("x"), &by()).await.unwrap(), None);
    let created = store.create_first_admin(&first, &admin("a@b.c"), &by()).await.unwrap();
    assert!(matches!(created, FirstAdmin::InvalidLink), "{created:?}");

    let taken = store.add_user(&new_user("taken@b.c", "basic"), &by()).await.unwrap();
    let refused = store.create_first_admin(&second, &admin(&taken.email), &by()).await;
    assert!(matches!(refused, Err(UserError::EmailTaken)), "{refused:?}");
    let created = store.create_first_admin(&second, &admin("a@b.c"), &by()).await.unwrap();
    let FirstAdmin::Created(user) = created else { panic!("{created:?}") };
    assert_eq!((user.role, user.email_verified_at), (Role::Admin, Some(at(0))));
    let again = store.create_first_admin(&second, &admin("d@e.f"), &by()).await.unwrap();
    assert!(matches!(again, FirstAdmin::InvalidLink), "{again:?}");
    assert!(!store.replace_setup_link(&new_link(None, LinkPurpose::FirstAdmin)).await.unwrap());
}

pub async fn no_first_admin_is_created_beside_another(store: Any) {
    let link = setup_link(&store).await;
    store.add_user(&admin("other@b.c"), &by()).await.unwrap();
    assert_eq!(store.setup_state(&link).await.unwrap(), SetupState::AdminExists);
    let refused = store.create_first_admin(&link, &admin("a@b.c"), &by()).await.unwrap();
    assert!(matches!(refused, FirstAdmin::AdminExists), "{refused:?}");
    assert_eq!(store.user_by_email("a@b.c").await.unwrap(), None);
}

pub async fn of_concurrent_first_admins_one_is_created(store: Any) {
    let link = setup_link(&store).await;
    let admins: Vec<NewUser> = (0..6).map(|n| admin(&format!("{n}@b.c"))).collect();
    let by = by();
    let created = admins.iter().map(|admin| store.create_first_admin(&link, admin, &by));
    let done = futures_util::future::join_all(created).await;
    let is_created = |done: &FirstAdmin| matches!(done, FirstAdmin::Created(_));
    assert_eq!(done.iter().filter(|done| is_created(done.as_ref().unwrap())).count(), 1);
}

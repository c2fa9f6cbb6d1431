//! The second factor: set-up, log-in with codes, and attacks on it.

use super::*;
use crate::control::auth::AttemptTime;
use crate::control::auth::second_factor::SecondFactorCheck;
use domain::second_factor::SecondFactorKeys;
use domain::second_factor::recovery_code::RecoveryCode;
use domain::second_factor::totp::TotpSecret;
use domain::user::UserStatus;
use jiff::SignedDuration;
use std::time::Duration;
use store::UserChange;
use store::second_factors::Enabling;

const FACTOR: &str = "/api/v1/users/second-factor";
const LOGIN: &str = "/api/v1/users/login";
const PROFILE: &str = "/api/v1/users/profile";
const CHANGE_PASSWORD: &str = "/api/v1/users/change-password";

/// A user whose log-ins need a code.
struct Protected {
    person: Person,
    secret: TotpSecret,
    recovery_codes: Vec<String>,
}

/// The code that the app shows so many steps from now.
fn code(secret: &TotpSecret, steps: i64) -> String {
    secret.code_at(clock::now() + SignedDuration::from_secs(30 * steps))
}

/// A code that no step near now has.
fn wrong_code(secret: &TotpSecret) -> String {
    let near: Vec<String> = (-3..=3).map(|steps| code(secret, steps)).collect();
    let candidates = (0..10).map(|number| format!("{number:06}"));
    candidates.into_iter().find(|code| !near.contains(code)).unwrap()
}

/// Has a user whose last accepted code is long past, so that tests need not wait for the next one.
async fn protected(control: &Control, email: &str, role: Role) -> Protected {
    protected_by(control, email, role, SECRET).await
}

/// The same, of a server with another `SECRET_KEY`.
async fn protected_by(control: &Control, email: &str, role: Role, server: &[u8]) -> Protected {
    let person = control.person(email, role).await;
    let user = person.user.id;
    let keys = SecondFactorKeys::of(&Pepper::new(server));
    let secret = TotpSecret::generate().unwrap();
    let sealed = keys.seal(&secret, user).unwrap();
    let codes = RecoveryCode::generate_set().unwrap();
    let store = &control.store;
    assert!(store.begin_second_factor(user, &sealed, clock::now()).await.unwrap());
    let enabling = Enabling {
        user,
        secret: sealed,
        step: 1,
        recovery_codes: codes.iter().map(|code| keys.digest(code, user)).collect(),
        session: person.session(),
    };
    let by = AuditContext::operator(clock::now());
    assert!(store.enable_second_factor(&enabling, &by).await.unwrap());
    Protected { person, secret, recovery_codes: codes.iter().map(RecoveryCode::reveal).collect() }
}

impl Control {
    async fn login_with(&self, email: &str, code: Option<&str>, from: &str) -> Reply {
        let mut form = json!({ "email": email, "password": PASSWORD });
        if let Some(code) = code {
            form["code"] = json!(code);
        }
        self.ask("POST", LOGIN, Ask { from: Some(from), ..Ask::default() }.json(form)).await
    }
}

#[tokio::test]
async fn a_second_factor_is_set_up_in_two_steps() {
    let control = control().await;
    let ada = control.user().await;
    let elsewhere = control.log_in(ada.user.clone()).await;
    let token = Some(&*ada.token);
    let state = control.get(FACTOR, token).await.ok();
    assert_eq!(state, json!({ "enabled": false, "enabled_at": null, "recovery_codes_left": 0 }));
    let enable = format!("{FACTOR}/enable");
    control
        .post(&enable, token, json!({ "code": "123456" }))
        .await
        .refused(409, "no_second_factor");

    control.post(FACTOR, token, json!({})).await.invalid("current_password");
    let wrong = json!({ "current_password": "wrong" });
    control.post(FACTOR, token, wrong).await.refused(403, "wrong_password");
    let form = json!({ "current_password": PASSWORD });
    let earlier = control.post(FACTOR, token, form.clone()).await.ok();
    let begun = control.post(FACTOR, token, form.clone()).await.ok();
    let shown = begun["secret"].as_str().unwrap();
    assert_ne!(begun["secret"], earlier["secret"], "the first may have been seen by others");
    let uri = begun["otpauth_uri"].as_str().unwrap();
    assert!(uri.starts_with("otpauth://totp/KnockXPrime:ada@example.com?secret="), "{uri}");
    assert!(uri.contains(shown) && begun["qr_svg"].as_str().unwrap().starts_with("<svg "));
    control.login(&ada.user.email, PASSWORD).await.ok();

    let secret = domain::testing::totp_secret(shown);
    let previous = domain::testing::totp_secret(earlier["secret"].as_str().unwrap());
    for bad in [wrong_code(&secret), code(&previous, 0), "01ab-cdef-ghjk".to_owned()] {
        control.post(&enable, token, json!({ "code": bad })).await.refused(403, "wrong_code");
    }
    let first = code(&secret, 0);
    let codes = control.post(&enable, token, json!({ "code": first })).await.ok();
    assert_eq!(codes["recovery_codes"].as_array().unwrap().len(), 10);
    let state = control.get(FACTOR, token).await.ok();
    assert_eq!((&state["enabled"], &state["recovery_codes_left"]), (&json!(true), &json!(10)));
    control.get(PROFILE, Some(&elsewhere.token)).await.refused(401, "invalid_token");
    control.post(FACTOR, token, form).await.refused(409, "second_factor_enabled");
    control.post(&enable, token, json!({ "code": first })).await.refused(409, "no_second_factor");
    control
        .login_with(&ada.user.email, Some(&first), "192.0.2.1")
        .await
        .refused(401, "invalid_code");
    control.login_with(&ada.user.email, Some(&code(&secret, 1)), "192.0.2.1").await.ok();
    let stored = control.store.second_factor(ada.user.id).await.unwrap().unwrap();
    assert!(
        !stored
            .secret
            .0
            .windows(20)
            .any(|bytes| bytes == data_encoding::BASE32_NOPAD.decode(shown.as_bytes()).unwrap())
    );
}

#[tokio::test]
async fn a_log_in_needs_password_and_code() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let email = &ada.person.user.email;
    let log_in = async |code: Option<&str>| control.login_with(email, code, "127.0.0.1").await;
    let missing = log_in(None).await;
    missing.refused(401, "second_factor_required");
    assert_eq!(missing.json()["error"]["param"], "code");
    let typed = code(&ada.secret, 0);
    let session = log_in(Some(&format!(" {} {}", &typed[..3], &typed[3..]))).await.ok();
    control.get(PROFILE, session["access_token"].as_str()).await.ok();
    log_in(Some(&typed)).await.refused(401, "invalid_code");
    log_in(Some(&code(&ada.secret, -1))).await.refused(401, "invalid_code");
    log_in(Some(&code(&ada.secret, 1))).await.ok();
    log_in(Some("")).await.invalid("code");
    log_in(Some(&"1".repeat(65))).await.invalid("code");
    control.login("eve@example.com", PASSWORD).await.refused(401, "invalid_credentials");
}

/// Neither the reply nor the store's work differs before the password is right.
#[tokio::test]
async fn a_wrong_password_says_nothing_of_a_second_factor() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let eve = control.person("eve@example.com", Role::User).await;
    let mut replies = Vec::new();
    for email in [&ada.person.user.email, &eve.user.email, "unknown@example.com"] {
        for code in [None, Some(code(&ada.secret, 0)), Some("01ab-cdef-ghjk".to_owned())] {
            let mut form = json!({ "email": email, "password": "wrong" });
            if let Some(code) = code {
                form["code"] = json!(code);
            }
            let reply = control.post(LOGIN, None, form).await;
            reply.refused(401, "invalid_credentials");
            replies.push(reply.text);
        }
    }
    assert!(replies.iter().all(|reply| *reply == replies[0]), "{replies:?}");
    // None of those guesses used the code up.
    let good = code(&ada.secret, 0);
    control.login_with(&ada.person.user.email, Some(&good), "192.0.2.1").await.ok();
}

#[tokio::test]
async fn a_code_of_another_user_is_wrong() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let eve = protected(&control, "eve@example.com", Role::User).await;
    for foreign in [&code(&eve.secret, 0), &eve.recovery_codes[0]] {
        let reply = control.login_with("ada@example.com", Some(foreign), "127.0.0.1").await;
        reply.refused(401, "invalid_code");
    }
    assert_eq!(control.get(FACTOR, Some(&eve.person.token)).await.ok()["recovery_codes_left"], 10);
    control.login_with("eve@example.com", Some(&eve.recovery_codes[0]), "127.0.0.1").await.ok();
    control.login_with("ada@example.com", Some(&ada.recovery_codes[0]), "127.0.0.1").await.ok();
}

#[tokio::test]
async fn a_recovery_code_is_good_once() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let log_in =
        async |code: &str| control.login_with("ada@example.com", Some(code), "127.0.0.1").await;
    let one = &ada.recovery_codes[0];
    let session = log_in(&one.to_uppercase().replace('-', " ")).await.ok();
    log_in(one).await.refused(401, "invalid_code");
    let token = session["access_token"].as_str();
    assert_eq!(control.get(FACTOR, token).await.ok()["recovery_codes_left"], 9);
    // Of two at once one is let in.
    let (a, b) = tokio::join!(log_in(&ada.recovery_codes[1]), log_in(&ada.recovery_codes[1]));
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);

    let path = format!("{FACTOR}/recovery-codes");
    control.post(&path, token, json!({})).await.invalid("current_password");
    let wrong = json!({ "current_password": "wrong" });
    control.post(&path, token, wrong).await.refused(403, "wrong_password");
    let form = json!({ "current_password": PASSWORD });
    control.post(&path, token, form).await.refused(403, "second_factor_required");
    let form = json!({ "current_password": PASSWORD, "code": code(&ada.secret, 0) });
    let new = control.post(&path, token, form).await.ok()["recovery_codes"].clone();
    log_in(&ada.recovery_codes[2]).await.refused(401, "invalid_code");
    log_in(new[0].as_str().unwrap()).await.ok();
    let log = control.get("/api/v1/admin/audit", Some(&control.admin().await.token)).await.text;
    assert!(log.contains("second_factor.use_recovery_code"), "{log}");
    assert!(ada.recovery_codes.iter().all(|code| !log.contains(code)));
}

#[tokio::test]
async fn of_two_log_ins_with_one_code_one_succeeds() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let good = code(&ada.secret, 0);
    let log_in = || control.login_with("ada@example.com", Some(&good), "127.0.0.1");
    let (a, b) = tokio::join!(log_in(), log_in());
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 401]);
}

/// An attacker has the password, and tries codes from many addresses.
#[tokio::test]
async fn codes_cannot_be_guessed_and_guessing_locks_nobody_out() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let check = SecondFactorCheck::new(&Pepper::new(SECRET), 3);
    let (wrong, good) = (wrong_code(&ada.secret), code(&ada.secret, 0));
    let tried = async |code: &str, is_known_host: bool, at: AttemptTime| {
        check.check_login(&*control.store, &ada.person.user, Some(code), (is_known_host, at)).await
    };
    let mut at = AttemptTime::now();
    for _ in 0..3 {
        assert!(matches!(tried(&wrong, false, at).await, Err(ApiError::InvalidCode)));
    }
    assert!(matches!(tried(&good, false, at).await, Err(ApiError::TooManyAttempts(_))));
    // The owner comes from a host that has logged in before, or has a recovery code.
    assert!(tried(&ada.recovery_codes[0], false, at).await.is_ok());
    assert!(tried(&good, true, at).await.is_ok());
    let (end, mut guesses) = (at.instant + Duration::from_hours(24), 3);
    while at.instant < end {
        match tried(&wrong, false, at).await {
            Err(ApiError::TooManyAttempts(wait)) => at.instant += wait,
            _ => guesses += 1,
        }
    }
    // Each has three chances in a million.
    assert!((50..=115).contains(&guesses), "{guesses} guesses a day");
}

#[tokio::test]
async fn wrong_codes_count_like_wrong_passwords() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let wrong = wrong_code(&ada.secret);
    let log_in = async |code: Option<&str>, from: &str| {
        control.login_with("ada@example.com", code, from).await
    };
    for from in ["127.0.0.1", "192.0.2.1"] {
        for _ in 0..5 {
            log_in(Some(&wrong), from).await.refused(401, "invalid_code");
        }
        log_in(Some(&wrong), from).await.refused(429, "too_many_tries");
        log_in(None, from).await.refused(429, "too_many_tries");
    }
    log_in(Some(&ada.recovery_codes[0]), "203.0.113.1").await.ok();
}

#[tokio::test]
async fn changes_need_a_code_as_well() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let token = Some(&*ada.person.token);
    let change = async |code: Option<&str>, password: &str| {
        let mut form = json!({ "current_password": password, "new_password": "a new password" });
        if let Some(code) = code {
            form["code"] = json!(code);
        }
        control.post(CHANGE_PASSWORD, token, form).await
    };
    change(None, PASSWORD).await.refused(403, "second_factor_required");
    change(Some(&wrong_code(&ada.secret)), PASSWORD).await.refused(403, "wrong_code");
    change(None, "wrong").await.refused(403, "wrong_password");
    let email = json!({ "email": "new@example.com", "current_password": PASSWORD });
    control.patch(PROFILE, token, email.clone()).await.refused(403, "second_factor_required");
    let mut with_code = email;
    with_code["code"] = json!(ada.recovery_codes[0]);
    control.patch(PROFILE, token, with_code).await.ok();
    let changed = change(Some(&code(&ada.secret, 0)), PASSWORD).await.ok();
    control.get(PROFILE, changed["access_token"].as_str()).await.ok();
    let form = json!({ "email": "new@example.com", "password": "a new password" });
    control.post(LOGIN, None, form).await.refused(401, "second_factor_required");
}

#[tokio::test]
async fn guesses_in_a_session_have_to_wait() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let token = Some(&*ada.person.token);
    let disable = async |code: &str| {
        let form = json!({ "current_password": PASSWORD, "code": code });
        control.post(&format!("{FACTOR}/disable"), token, form).await
    };
    for _ in 0..5 {
        disable(&wrong_code(&ada.secret)).await.refused(403, "wrong_code");
    }
    disable(&code(&ada.secret, 0)).await.refused(429, "too_many_tries");
    assert!(control.get(FACTOR, token).await.ok()["enabled"].as_bool().unwrap());
    // A log-in is counted elsewhere.
    control.login_with("ada@example.com", Some(&code(&ada.secret, 0)), "127.0.0.1").await.ok();
}

#[tokio::test]
async fn disabling_needs_a_proof_and_ends_the_codes() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let token = Some(&*ada.person.token);
    let path = format!("{FACTOR}/disable");
    control.post(&path, token, json!({})).await.invalid("current_password");
    let wrong = json!({ "current_password": "wrong", "code": code(&ada.secret, 0) });
    control.post(&path, token, wrong).await.refused(403, "wrong_password");
    let form = json!({ "current_password": PASSWORD });
    control.post(&path, token, form).await.refused(403, "second_factor_required");
    let form = json!({ "code": code(&ada.secret, 0) });
    control.post(&path, token, form).await.invalid("current_password");
    let form = json!({ "current_password": PASSWORD, "code": code(&ada.secret, 0) });
    assert_eq!(control.post(&path, token, form.clone()).await.status, 204);
    control.login("ada@example.com", PASSWORD).await.ok();
    control.post(&path, token, form).await.refused(409, "no_second_factor");
    // Without a second factor a code proves nothing.
    let form = json!({ "code": code(&ada.secret, 1) });
    control.post(&path, token, form).await.invalid("current_password");
}

#[tokio::test]
async fn an_admin_removes_a_second_factor() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let root = control.admin().await;
    let path = format!("/api/v1/admin/users/{}/second-factor", ada.person.user.id);
    control.delete(&path, Some(&ada.person.token)).await.refused(403, "admins_only");
    assert_eq!(control.delete(&path, Some(&root.token)).await.status, 204);
    control.delete(&path, Some(&root.token)).await.refused(409, "no_second_factor");
    control
        .delete(&path.replace(&ada.person.user.id.to_string(), "none"), Some(&root.token))
        .await
        .refused(404, "not_found");
    control.login("ada@example.com", PASSWORD).await.ok();
    let log = format!("/api/v1/admin/audit?subject=user:{}&limit=1", ada.person.user.id);
    let entry = control.get(&log, Some(&root.token)).await.ok()["data"][0].clone();
    assert_eq!(entry["action"], "second_factor.disable");
    assert_eq!(entry["actor"], format!("user:{}", root.user.id));
}

/// As after a new `SECRET_KEY`: no user gets in without a code, and nothing breaks.
#[tokio::test]
async fn a_second_factor_of_another_server_secret_is_refused_until_it_is_removed() {
    let control = control().await;
    let ada = protected_by(&control, "ada@example.com", Role::User, b"another secret").await;
    for code in [code(&ada.secret, 0), ada.recovery_codes[0].clone(), "123456".to_owned()] {
        let reply = control.login_with("ada@example.com", Some(&code), "127.0.0.1").await;
        reply.refused(403, "second_factor_unreadable");
    }
    let missing = control.login_with("ada@example.com", None, "127.0.0.1").await;
    missing.refused(401, "second_factor_required");
    let form = json!({ "current_password": PASSWORD, "code": code(&ada.secret, 0) });
    let path = format!("{FACTOR}/disable");
    let reply = control.post(&path, Some(&ada.person.token), form).await;
    reply.refused(403, "second_factor_unreadable");
    let by = AuditContext::operator(clock::now());
    assert!(control.store.remove_second_factor(ada.person.user.id, &by).await.unwrap());
    control.login("ada@example.com", PASSWORD).await.ok();
}

#[tokio::test]
async fn a_suspended_user_is_told_so_without_a_code() {
    let control = control().await;
    let ada = protected(&control, "ada@example.com", Role::User).await;
    let suspend = UserChange { status: Some(UserStatus::Suspended), ..UserChange::default() };
    let by = AuditContext::operator(clock::now());
    control.store.change_user(ada.person.user.id, &suspend, &by).await.unwrap();
    control.login("ada@example.com", PASSWORD).await.refused(403, "account_suspended");
}

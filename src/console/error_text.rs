//! Errors in the language of a page. A test asks for the text of every variant.

use super::format::Time;
use super::page::Page;
use crate::control::api_error::ApiError;

/// What happened and what to do, in the language of the page.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one exhaustive table")]
pub fn message(page: &Page, error: &ApiError) -> String {
    let text = match error {
        ApiError::FormField(sentence) => return sentence.clone(),
        ApiError::InvalidValue { param, problem } => return invalid_value(page, param, problem),
        ApiError::TooManyKeys(most) => {
            return page
                .fill("An account can have at most {} active keys. Revoke one first.", &[most]);
        }
        ApiError::ReloadFailed(cause) => {
            return page.fill("The configuration was not reloaded; the previous one stays in effect: {}", &[cause]);
        }
        ApiError::TooManyAttempts(wait) => {
            return page.fill("Too many attempts. Retry in {} s.", &[&(wait.as_secs() + 1)]);
        }
        ApiError::AddressReserved(until) => {
            return page.fill(
                "Another account had this e-mail address today. It can be used again from {}.",
                &[&Time(*until)],
            );
        }
        ApiError::BodyTooLarge { limit } => {
            return page.fill("The form is larger than {} bytes. Enter less.", &[limit]);
        }

        ApiError::RouteNotFound | ApiError::AdminsOnly => page.t("This page does not exist."),
        ApiError::MethodNotAllowed => {
            page.t("This page cannot be asked for in this way. Open it by a link or a button of the console.")
        }
        ApiError::ForeignHost => page.t("This address of the console is not allowed."),
        ApiError::NotFound(_) => page.t("There is no such record. It may have been deleted."),
        ApiError::UnsupportedMediaType | ApiError::MalformedJson(_) => {
            page.t("This is not a form of a page of the console.")
        }

        ApiError::TokenMissing
        | ApiError::InvalidToken
        | ApiError::ExpiredToken
        | ApiError::InvalidRefreshToken
        | ApiError::CredentialMissing
        | ApiError::InvalidKey
        | ApiError::RevokedKey
        | ApiError::ExpiredKey
        | ApiError::AccessTokenRequired => page.t("Your session has ended. Log in again."),
        ApiError::InvalidCredentials => page.t("The e-mail address or the password is wrong."),
        ApiError::WrongPassword => page.t("The password is wrong."),
        ApiError::NoPassword => {
            page.t("This account has no password. Set one on the page of the account.")
        }
        ApiError::SecondFactorRequired => {
            page.t("Enter the password again, with the code of your authenticator app or a recovery code.")
        }
        ApiError::CodeRequired => page.t("Enter a code of the second factor."),
        ApiError::InvalidCode | ApiError::WrongCode => {
            page.t("The code is wrong, has expired, or was already used.")
        }
        ApiError::UnreadableSecondFactor => {
            page.t("The second factor cannot be checked, because the secret of the server has changed. Ask an admin to remove it.")
        }

        ApiError::Suspended => page.t("This account is suspended. Ask the operator to resume it."),
        ApiError::EmailUnverified => {
            page.t("Verify your e-mail address first: the page of your account sends the link.")
        }
        ApiError::InvalidLink => {
            page.t("This link was used before, has expired, or was replaced by a newer one.")
        }
        ApiError::ReadOnlyRole => {
            page.t("Your role reads everything and changes nothing. This needs an admin.")
        }
        ApiError::InvalidSignIn => {
            page.t("This sign-in has expired, was used before, or began in another browser. Start it again.")
        }
        ApiError::SignInRejected => {
            page.t("The sign-in provider did not confirm who you are. Start again; if it happens again, ask the operator.")
        }
        ApiError::ProviderEmailRequired => {
            page.t("The sign-in provider reports no verified e-mail address that this gateway accepts. Verify it there, or ask the operator.")
        }
        ApiError::NotReauthenticated => {
            page.t("The sign-in provider did not report that you have signed in again. Log out and log in again, or confirm with a password.")
        }
        ApiError::AccountNotLinked => {
            page.t("An account with this e-mail address exists, which cannot be linked automatically. Log in to it with its password, and link the provider on the page of the account.")
        }
        ApiError::IdentityTaken => {
            page.t("This identity of the sign-in provider belongs to another account, or to none.")
        }
        ApiError::IdentityExists => {
            page.t("Another identity of the sign-in provider is linked to this account. Unlink it first.")
        }
        ApiError::OnlyWayIn => {
            page.t("This identity is the only way to log in to this account. Set a password first.")
        }
        ApiError::ProviderUnavailable => {
            page.t("The sign-in provider is unavailable. Retry in a few minutes, or log in with a password.")
        }
        ApiError::RegistrationClosed => {
            page.t("Registration is closed. Ask the operator for an account.")
        }
        ApiError::OwnAccountLockout => {
            page.t("This is your own account. Another admin can change, invite or delete it.")
        }
        ApiError::LastAdmin => page.t("This is the last admin. Make another user an admin first."),

        ApiError::AlreadyVerified => page.t("The e-mail address of this account is verified already."),
        ApiError::AdminExists => page.t("This gateway has an admin already."),
        ApiError::MailNotConfigured => page.t("This gateway has no mail server."),
        ApiError::MailQueueFull => {
            page.t("Too many mails are waiting for the mail server. Retry in a few minutes.")
        }
        ApiError::SecondFactorEnabled => page.t("The second factor is already on."),
        ApiError::NoSecondFactor => page.t("There is no second factor."),
        ApiError::AlreadyTaken("username") => page.t("Another account has this username."),
        ApiError::AlreadyTaken(_) => page.t("Another account has this e-mail address."),
        ApiError::PlanExists => page.t("Another plan has this id. Choose a different one."),
        ApiError::SamePlan => page.t("The account has this plan already."),
        ApiError::RetiredPlan => {
            page.t("This plan is closed to new subscribers. Choose another one.")
        }
        ApiError::AlreadyDecided => {
            page.t("This request was decided, withdrawn or replaced meanwhile.")
        }
        ApiError::UpgradeOutdated => {
            page.t("This request is out of date: the user's plan has changed since, or the plan asked for is closed to new subscribers. Reject it.")
        }
        ApiError::UpstreamTestRunning => {
            page.t("Another test of an upstream is running. Retry in a few seconds.")
        }

        ApiError::Busy => page.t("Too many passwords are being checked. Retry in a few seconds."),
        ApiError::StoreUnavailable(_) => {
            page.t("The database is unavailable. Retry in a few seconds.")
        }
        ApiError::QuotaUnavailable(_) => {
            page.t("The counters of limits are unavailable. Retry in a few seconds.")
        }
        ApiError::Internal => {
            page.t("This is an error of the gateway. Report it to the operator with the id of the request.")
        }
    };
    text.to_owned()
}

/// The text of a value that the control plane refuses, by its parameter. Forms check most values themselves,
/// and say more.
fn invalid_value(page: &Page, param: &str, problem: &str) -> String {
    if problem.starts_with(&format!("`{param}`: unknown field")) {
        return page.fill("This page has no parameter “{}”.", &[&param]);
    }
    let text = match param {
        "from" | "to" => page.t("The days must be dates such as 2026-11-30, the first not after the last, and at most 366 days."),
        "month" => page.t("The month must be such as 2026-11."),
        "cursor" => page.t("There is no such part of the list. Begin at its first page."),
        "ends_at" => page.t("The end must be later than the start."),
        "search" | "request_id" => page.t("The text to search for is too long."),
        "models" | "overrides.models" => page.t("One of the models is not offered by this gateway."),
        "current_password" => page.t("Enter your current password."),
        "id" => page.t("This key has expired. Change its last day first, or create a new key."),
        "" | "." => page.t("The address of the page or its form is not complete."),
        param => return page.fill("The value of “{}” is not valid.", &[&param]),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::message::Language;
    use quota::backend::QuotaUnavailable;
    use std::collections::BTreeSet;
    use std::time::Duration;
    use store::StoreError;

    /// One error of each variant, and of each parameter that has a text of its own.
    fn examples() -> Vec<ApiError> {
        use ApiError as E;
        let mut examples = vec![
            E::RouteNotFound,
            E::MethodNotAllowed,
            E::ForeignHost,
            E::NotFound("plan"),
            E::BodyTooLarge { limit: 7 },
            E::UnsupportedMediaType,
            E::MalformedJson("x".to_owned()),
            E::form_field("请选择"),
            E::TokenMissing,
            E::InvalidToken,
            E::ExpiredToken,
            E::InvalidRefreshToken,
            E::InvalidCredentials,
            E::WrongPassword,
            E::NoPassword,
            E::SecondFactorRequired,
            E::InvalidCode,
            E::CodeRequired,
            E::WrongCode,
            E::UnreadableSecondFactor,
            E::CredentialMissing,
            E::InvalidKey,
            E::RevokedKey,
            E::ExpiredKey,
            E::AccessTokenRequired,
            E::Suspended,
            E::EmailUnverified,
            E::InvalidLink,
            E::InvalidSignIn,
            E::SignInRejected,
            E::ProviderEmailRequired,
            E::NotReauthenticated,
            E::AccountNotLinked,
            E::IdentityTaken,
            E::IdentityExists,
            E::OnlyWayIn,
            E::ProviderUnavailable,
            E::AdminsOnly,
            E::ReadOnlyRole,
            E::RegistrationClosed,
            E::OwnAccountLockout,
            E::LastAdmin,
            E::AlreadyVerified,
            E::AdminExists,
            E::MailNotConfigured,
            E::MailQueueFull,
            E::SecondFactorEnabled,
            E::NoSecondFactor,
            E::AlreadyTaken("username"),
            E::AlreadyTaken("email"),
            E::AddressReserved(jiff::Timestamp::UNIX_EPOCH),
            E::PlanExists,
            E::SamePlan,
            E::RetiredPlan,
            E::AlreadyDecided,
            E::UpgradeOutdated,
            E::TooManyKeys(100),
            E::ReloadFailed("my.toml:3".to_owned()),
            E::UpstreamTestRunning,
            E::TooManyAttempts(Duration::from_secs(3)),
            E::Busy,
            E::StoreUnavailable(StoreError::Unavailable(String::new())),
            E::QuotaUnavailable(QuotaUnavailable),
            E::Internal,
        ];
        let params = ["from", "to", "month", "cursor", "ends_at", "search", "request_id", "models"];
        let params = params.into_iter().chain(["current_password", "id", "", ".", "limit"]);
        examples.extend(params.map(|param| E::invalid(param, "an English sentence.")));
        examples.push(E::invalid("from", "`from`: unknown field `from`, expected `month`."));
        examples
    }

    /// The names of the variants, as the source has them.
    fn variants() -> BTreeSet<String> {
        let source = include_str!("../control/api_error.rs");
        let body =
            source.split_once("pub enum ApiError {").unwrap().1.split_once("\n}\n").unwrap().0;
        let names = body.lines().filter_map(|line| line.strip_prefix("    "));
        let names = names.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
        names.map(|line| line.chars().take_while(char::is_ascii_alphanumeric).collect()).collect()
    }

    #[test]
    fn every_error_has_a_text_in_every_language() {
        let name = |error: &ApiError| {
            let debug = format!("{error:?}");
            debug.chars().take_while(char::is_ascii_alphanumeric).collect::<String>()
        };
        assert_eq!(examples().iter().map(name).collect::<BTreeSet<_>>(), variants());
        let chinese = Page { language: Language::Chinese, ..Page::default() };
        for error in examples() {
            let text = message(&chinese, &error);
            let is_han = |c: char| ('\u{4e00}'..='\u{9fff}').contains(&c);
            assert!(text.chars().any(is_han), "{error:?}: {text}");
            assert!(!text.contains("an English sentence"), "{error:?}: {text}");
            if !matches!(error, ApiError::FormField(_)) {
                assert_ne!(message(&Page::default(), &error), text, "{error:?}");
            }
        }
        assert!(
            message(&chinese, &ApiError::TooManyAttempts(Duration::from_secs(3))).contains('4')
        );
    }
}

//! Error codes and phrases by which upstreams report a problem with the operator's account or key, not
//! with the request. In lower case; words of codes are joined with `-`.

/// Codes and types: money, credits and quotas of the account.
pub(super) const MONEY_CODES: [&str; 26] = [
    "insufficient-quota",
    "insufficient-balance",
    "insufficient-credits",
    "credit-balance-exhausted",
    "credit-limit",
    "credits-exhausted",
    "billing-hard-limit-reached",
    "billing-not-active",
    "billing-error",
    "billing-disabled",
    "payment-required",
    "arrearage",
    "account-overdue",
    "allocationquota.freetieronly",
    "exceeded-current-quota-error",
    "quota-exceeded",
    "quotaexceeded",
    "usage-limit-exceeded",
    "usage-limit-reached",
    "spend-limit-exceeded",
    "organization-spend-limit-exceeded",
    "project-spend-limit-exceeded",
    "organization-usage-limit-exceeded",
    "out-of-credits",
    "balance-insufficient",
    "1113",
];

/// Codes and types: keys, accounts, rights.
pub(super) const KEY_CODES: [&str; 34] = [
    "invalid-api-key",
    "invalidapikey",
    "invalid-apikey",
    "api-key-invalid",
    "incorrect-api-key",
    "api-key-expired",
    "expired-api-key",
    "missing-api-key",
    "authentication-error",
    "invalid-authentication-error",
    "unauthenticated",
    "unauthorized",
    "account-deactivated",
    "account-suspended",
    "account-inactive",
    "access-terminated",
    "organization-restricted",
    "invalid-organization",
    "invalid-project",
    "project-archived",
    "missing-scope",
    "unsupported-country-region-territory",
    "ip-not-authorized",
    "blocked-api-access",
    "model-permission-blocked-org",
    "model-permission-blocked-project",
    "accessdenied",
    "accessdenied.unpurchased",
    "model.accessdenied",
    "workspace.accessdenied",
    "accessdeniedexception",
    "unrecognizedclientexception",
    "expiredtokenexception",
    "permission-error",
];

/// Codes of what the upstream's content rules forbid.
pub(super) const CONTENT_CODES: [&str; 15] = [
    "content-policy-violation",
    "image-content-policy-violation",
    "content-policy",
    "content-blocked",
    "content-moderation",
    "prompt-blocked",
    "prompt-filtered",
    "prohibited-content",
    "content-filter",
    "content-filtered",
    "moderation-blocked",
    "data-inspection-failed",
    "datainspectionfailed",
    "responsibleaipolicyviolation",
    "safety",
];

/// Codes of a model that is not there.
pub(super) const NO_MODEL: [&str; 5] = [
    "model-not-found",
    "model-not-available",
    "deploymentnotfound",
    "model-not-exist",
    "not-found-error",
];

/// Messages about the account's money.
pub(super) const MONEY: [&str; 30] = [
    "your credit balance",
    "credit balance is too low",
    "your account balance",
    "insufficient balance",
    "insufficient credit",
    "insufficient fund",
    "insufficient quota",
    "credit limit exceeded",
    "key limit exceeded",
    "billing",
    "your account is not active",
    "access denied, please make sure your account is in good standing",
    "the free tier of the model has been exhausted",
    "free allocated quota exceeded",
    "you exceeded your current quota",
    "you have exceeded your monthly included credits",
    "you have exceeded your current quota",
    "you have reached your specified api usage limits",
    "you have reached your usage limit",
    "your team has either used all available credits",
    "your team has used all available credits",
    "used all available credits",
    "reached its monthly spending limit",
    "have any credits or licenses",
    "spending limit",
    "this request requires more credits",
    "out of call volume quota",
    "this api method requires billing to be enabled",
    "余额不足",
    "账户已欠费",
];

/// Messages about the account's key, rights or standing.
pub(super) const KEY: [&str; 39] = [
    "incorrect api key",
    "invalid api key",
    "invalid api-key",
    "invalid apikey",
    "invalid x-api-key",
    "invalid api token",
    "invalid authentication",
    "authentication fail",
    "authentication required",
    "api key not valid",
    "api key not found",
    "api key expired",
    "api key is missing",
    "api key is disabled",
    "api key is required",
    "api key is blocked",
    "the api key is",
    "your api key",
    "missing api key",
    "no api key",
    "no auth credentials found",
    "no authorization header",
    "missing authentication",
    "unauthorized",
    "this organization has been disabled",
    "organization has been restricted",
    "your organization must be verified",
    "your organization has been",
    "your account has been",
    "your openai account has been",
    "your team is blocked",
    "your team has been",
    "the project you are requesting has been archived",
    "you must be a member of an organization",
    "user location is not supported",
    "country, region, or territory not supported",
    "access denied due to invalid subscription key",
    "gemini api free tier is not available",
    "unable to verify your membership",
];

/// Messages about what the upstream's content rules forbid.
pub(super) const CONTENT: [&str; 9] = [
    "usage guidelines",
    "safety",
    "content policy",
    "content management policy",
    "moderation",
    "was flagged",
    "inappropriate content",
    "content violates",
    "acceptable use policy",
];

/// A quota of so many in a time is a rate, whatever it is called.
pub(super) const RATE: [&str; 6] =
    ["per second", "per minute", "per day", "per hour", "please retry in", "rate limit reached"];

/// A code in one spelling.
pub(super) fn kebab(code: &str) -> String {
    code.trim().to_ascii_lowercase().replace(['_', ' '], "-")
}

/// The message in lower case, without quoted text.
pub(super) fn unquoted(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut closing = None;
    let mut before = ' ';
    for c in message.chars() {
        match closing {
            Some(end) if c == end => closing = None,
            Some(_) => {}
            None => {
                closing = match c {
                    '"' | '`' => Some(c),
                    // Not the one in "don't".
                    '\'' if !before.is_alphanumeric() => Some(c),
                    '“' | '„' => Some('”'),
                    '‘' => Some('’'),
                    '«' => Some('»'),
                    _ => None,
                };
                if closing.is_none() {
                    out.extend(c.to_lowercase());
                }
            }
        }
        before = c;
    }
    out
}

/// A message without what servers put before it: `Error: `, `Error code: 400 - `, the name of an
/// exception.
pub(super) fn without_labels(message: &str) -> &str {
    let mut rest = message.trim_start();
    while let Some((label, behind)) = rest.split_once([':', '-']) {
        let label = label.trim();
        let is_label = label.ends_with("error")
            || label.ends_with("exception")
            || label == "error code"
            || (!label.is_empty() && label.bytes().all(|b| b.is_ascii_digit()));
        if !is_label {
            break;
        }
        rest = behind.trim_start();
    }
    rest
}

//! How a call ended, in words for people.

use super::page::Page;
use domain::charge::{Source, Status};

/// The name of a status.
#[must_use]
pub fn name(page: &Page, status: Status) -> &str {
    match status {
        Status::Complete => page.t("Complete"),
        Status::CutByClient => page.t("Ended by the client"),
        Status::CutByUpstream => page.t("Cut by the upstream"),
        Status::CutByQuota => page.t("Ended at a limit"),
        Status::Failed => page.t("Failed"),
        Status::Abandoned => page.t("Interrupted"),
    }
}

/// What happened in a call with this status, and what was charged.
#[must_use]
pub fn reason(page: &Page, status: Status) -> &str {
    match status {
        Status::Complete => page.t("The whole answer was sent."),
        Status::CutByClient => {
            page.t("The client closed the connection before the answer was complete. The prompt and what was generated until then are charged.")
        }
        Status::CutByUpstream => {
            page.t("The upstream broke off the answer. The prompt and what had arrived are charged.")
        }
        Status::CutByQuota => {
            page.t("The tokens of the day were used up while the answer was running. What was sent until then is charged.")
        }
        Status::Failed => page.t("The upstream could not be reached, or answered with an error."),
        Status::Abandoned => {
            page.t("The gateway stopped while the call was running. What it used is not known, so the tokens that were reserved for it are charged.")
        }
    }
}

/// Where the numbers of tokens come from.
#[must_use]
pub fn source(page: &Page, source: Source) -> &str {
    match source {
        Source::Reported => page.t("The upstream reported the tokens."),
        Source::Estimated => {
            page.t("The gateway counted the tokens, because the upstream did not report them.")
        }
    }
}

/// The class of a status in the style sheet.
#[must_use]
pub fn class(status: Status) -> &'static str {
    match status {
        Status::Complete => "good",
        Status::CutByClient | Status::CutByQuota => "warn",
        Status::CutByUpstream | Status::Failed | Status::Abandoned => "bad",
    }
}

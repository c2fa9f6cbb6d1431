//! Values of metric labels: closed sets, which hold no user id and no raw path.

use wire::surface::Surface;

/// Values of the label `route` of `knockx_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Call(Surface),
    /// Reads and changes of a stored response.
    StoredResponse,
    DeferredCompletion,
    Models,
    /// Any other path under `/v1`.
    Other,
    /// Every path outside `/v1`.
    Control,
}

/// Values of the label `outcome` of `knockx_requests_total`: the end of a call, which its status alone does not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// By a rule of the gateway: authentication, bad input, quota, load.
    Refused,
    /// An upstream, the store or the gateway itself failed.
    Failed,
    CutByClient,
    CutByUpstream,
    CutByQuota,
}

/// Values of the label `outcome` of `knockx_admission_waits_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitOutcome {
    Admitted,
    /// Timed out, exceeded the queue length, or reached a limit that waiting does not lift.
    Refused,
    /// The client disconnected, or its access was revoked.
    Gone,
}

/// Values of the label `kind` of `knockx_tokens_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Prompt,
    /// The part of `Prompt` that came from the upstream's cache.
    Cached,
    Completion,
    Reasoning,
}

/// Values of the label `kind` of `knockx_mails_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailKind {
    VerifyEmail,
    ResetPassword,
    Invitation,
    /// A notice to the old address after the e-mail address of an account was changed.
    EmailChanged,
    /// A notice of another password or second factor.
    SecurityNotice,
}

/// Values of the label `outcome` of `knockx_mails_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailOutcome {
    /// The mail server has accepted it.
    Sent,
    /// An attempt failed and is repeated.
    Retried,
    /// The mail server refuses it, or did not accept it while it was of use.
    Failed,
    /// Too many mails were waiting.
    Dropped,
}

/// Values of the label `op` of `knockx_store_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOp {
    Journal,
    Caller,
    UserVersion,
    Changes,
    Accounts,
    Sessions,
    Plans,
    Audit,
    Ledger,
    Reports,
    /// Ownership of stored responses.
    StoredResponses,
    Ping,
}

/// Values of the label `op` of `knockx_redis_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisOp {
    Take,
    Extend,
    Settle,
    UsageSnapshot,
    Reset,
    /// Renewal of the leases of running calls.
    Renew,
    /// Transfer of charges from the outbox to the ledger.
    Flush,
    /// Invalidation after changes to users, keys and plans.
    Publish,
}

impl Route {
    /// Every route, in the order of [`Route::index`].
    pub const ALL: [Self; 13] = [
        Self::Call(Surface::ChatCompletions),
        Self::Call(Surface::Responses),
        Self::Call(Surface::Completions),
        Self::Call(Surface::Embeddings),
        Self::Call(Surface::Images),
        Self::Call(Surface::Messages),
        Self::Call(Surface::CountTokens),
        Self::Call(Surface::TokenizeText),
        Self::StoredResponse,
        Self::DeferredCompletion,
        Self::Models,
        Self::Other,
        Self::Control,
    ];

    /// Index of the route in [`Route::ALL`].
    #[must_use]
    pub(crate) const fn index(self) -> usize {
        const SURFACES: usize = Surface::ALL.len();
        match self {
            Self::Call(surface) => surface as usize,
            Self::StoredResponse => SURFACES,
            Self::DeferredCompletion => SURFACES + 1,
            Self::Models => SURFACES + 2,
            Self::Other => SURFACES + 3,
            Self::Control => SURFACES + 4,
        }
    }

    /// Returns the value of the label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Call(surface) => surface_label(surface),
            Self::StoredResponse => "kept",
            Self::DeferredCompletion => "deferred",
            Self::Models => "models",
            Self::Other => "other",
            Self::Control => "control",
        }
    }
}

fn surface_label(surface: Surface) -> &'static str {
    match surface {
        Surface::ChatCompletions => "chat_completions",
        Surface::Responses => "responses",
        Surface::Completions => "completions",
        Surface::Embeddings => "embeddings",
        Surface::Images => "images",
        Surface::Messages => "messages",
        Surface::CountTokens => "count_tokens",
        Surface::TokenizeText => "tokenize_text",
    }
}

impl Outcome {
    /// Every outcome, in the order of declaration.
    pub const ALL: [Self; 6] = [
        Self::Ok,
        Self::Refused,
        Self::Failed,
        Self::CutByClient,
        Self::CutByUpstream,
        Self::CutByQuota,
    ];

    /// Returns the value of the label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::CutByClient => "cut_by_client",
            Self::CutByUpstream => "cut_by_upstream",
            Self::CutByQuota => "cut_by_quota",
        }
    }
}

impl WaitOutcome {
    /// Every outcome, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::Admitted, Self::Refused, Self::Gone];

    /// Returns the value of the label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused => "refused",
            Self::Gone => "gone",
        }
    }
}

impl TokenKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::Prompt, Self::Cached, Self::Completion, Self::Reasoning];

    /// Returns the value of the label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prompt => "prompt",
            Self::Cached => "cached",
            Self::Completion => "completion",
            Self::Reasoning => "reasoning",
        }
    }
}

impl MailKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 5] = [
        Self::VerifyEmail,
        Self::ResetPassword,
        Self::Invitation,
        Self::EmailChanged,
        Self::SecurityNotice,
    ];

    /// Returns the value of the label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::VerifyEmail => "verify_email",
            Self::ResetPassword => "reset_password",
            Self::Invitation => "invitation",
            Self::EmailChanged => "email_changed",
            Self::SecurityNotice => "security_notice",
        }
    }
}

impl MailOutcome {
    /// Every outcome, in the order of declaration.
    pub const ALL: [Self; 4] = [Self::Sent, Self::Retried, Self::Failed, Self::Dropped];

    /// Returns the value of the label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Retried => "retried",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

impl StoreOp {
    /// Every operation, in the order of declaration.
    pub const ALL: [Self; 12] = [
        Self::Journal,
        Self::Caller,
        Self::UserVersion,
        Self::Changes,
        Self::Accounts,
        Self::Sessions,
        Self::Plans,
        Self::Audit,
        Self::Ledger,
        Self::Reports,
        Self::StoredResponses,
        Self::Ping,
    ];

    /// Returns the value of the label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Journal => "journal",
            Self::Caller => "caller",
            Self::UserVersion => "user_version",
            Self::Changes => "changes",
            Self::Accounts => "accounts",
            Self::Sessions => "sessions",
            Self::Plans => "plans",
            Self::Audit => "audit",
            Self::Ledger => "ledger",
            Self::Reports => "reports",
            Self::StoredResponses => "kept",
            Self::Ping => "ping",
        }
    }
}

impl RedisOp {
    /// Every operation, in the order of declaration.
    pub const ALL: [Self; 8] = [
        Self::Take,
        Self::Extend,
        Self::Settle,
        Self::UsageSnapshot,
        Self::Reset,
        Self::Renew,
        Self::Flush,
        Self::Publish,
    ];

    /// Returns the value of the label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Extend => "extend",
            Self::Settle => "settle",
            Self::UsageSnapshot => "standing",
            Self::Reset => "reset",
            Self::Renew => "renew",
            Self::Flush => "flush",
            Self::Publish => "announce",
        }
    }
}

/// Values of the label `trouble` of `knockx_upstream_account_refusals_total`: the reason for which an upstream
/// rejects the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountProblem {
    /// The key is not valid, lacks a permission, or its account is suspended.
    Key,
    /// The account has no credits left, or reached its spending limit.
    Quota,
}

impl AccountProblem {
    /// Every problem, in the order of declaration.
    pub const ALL: [Self; 2] = [Self::Key, Self::Quota];

    /// Returns the value of the label in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Quota => "quota",
        }
    }
}

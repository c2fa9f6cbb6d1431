//! The closed sets that metric labels come from; never a user id or a raw path.

/// `route` of `knockx_requests_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    ChatCompletions,
    Responses,
    Completions,
    Embeddings,
    Images,
    Messages,
    CountTokens,
    TokenizeText,
    /// What an upstream keeps, asked for by its id.
    Kept,
    /// Deferred completions.
    Deferred,
    Models,
    /// Anything else under `/v1`.
    Other,
    /// Everything outside `/v1`.
    Control,
}

/// `outcome` of `knockx_requests_total`: how a call ended, which its status alone cannot say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Ok,
    /// By a rule of ours: authentication, bad input, quota, load.
    Refused,
    /// Something did not work.
    Failed,
    CutByClient,
    CutByUpstream,
    CutByQuota,
}

/// `outcome` of `knockx_admission_waits_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waited {
    Admitted,
    /// Its time was up, too many waited, or a limit was hit that waiting does not help against.
    Refused,
    /// The client disconnected, or its access was revoked.
    Gone,
}

/// `kind` of `knockx_tokens_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Prompt,
    /// The part of `Prompt` that came from the upstream's cache.
    Cached,
    Completion,
    Reasoning,
}

/// `op` of `knockx_store_seconds`.
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
    /// Owners of replies that upstreams keep.
    Kept,
    Ping,
}

/// `op` of `knockx_redis_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisOp {
    Take,
    Extend,
    Settle,
    Standing,
    Reset,
    /// Deadlines of running calls.
    Renew,
    /// Charges on their way to the ledger.
    Flush,
    /// Changes to users, keys and plans.
    Announce,
}

impl Route {
    /// Every route, in the order of declaration.
    pub const ALL: [Self; 13] = [
        Self::ChatCompletions,
        Self::Responses,
        Self::Completions,
        Self::Embeddings,
        Self::Images,
        Self::Messages,
        Self::CountTokens,
        Self::TokenizeText,
        Self::Kept,
        Self::Deferred,
        Self::Models,
        Self::Other,
        Self::Control,
    ];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Responses => "responses",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Images => "images",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::TokenizeText => "tokenize_text",
            Self::Kept => "kept",
            Self::Deferred => "deferred",
            Self::Models => "models",
            Self::Other => "other",
            Self::Control => "control",
        }
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

    /// The label.
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

impl Waited {
    /// Every outcome, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::Admitted, Self::Refused, Self::Gone];

    /// The label.
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

    /// The label.
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
        Self::Kept,
        Self::Ping,
    ];

    /// The label.
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
            Self::Kept => "kept",
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
        Self::Standing,
        Self::Reset,
        Self::Renew,
        Self::Flush,
        Self::Announce,
    ];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Take => "take",
            Self::Extend => "extend",
            Self::Settle => "settle",
            Self::Standing => "standing",
            Self::Reset => "reset",
            Self::Renew => "renew",
            Self::Flush => "flush",
            Self::Announce => "announce",
        }
    }
}

/// What an upstream minds about the operator's account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccountTrouble {
    /// The key, its rights, or the standing of the account.
    Key,
    /// Credits, balance, spending limit.
    Quota,
}

impl AccountTrouble {
    /// Both, in the order of declaration.
    pub const ALL: [Self; 2] = [Self::Key, Self::Quota];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Quota => "quota",
        }
    }
}

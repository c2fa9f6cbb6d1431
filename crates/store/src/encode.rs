//! How domain values are stored in columns, and read back. Reading refuses values that were never written.

use crate::StoreError;
use crate::announcements::Level;
use crate::sessions::SessionKind;
use crate::upgrades::UpgradeStatus;
use domain::cached_tokens::CachedTokenFraction;
use domain::charge::{Source, Status};
use domain::day::Day;
use domain::plan::RequestPolicy;
use domain::second_factor::SealedSecret;
use domain::server_secret::Fingerprint;
use domain::user::{LimitOverrides, Role, UserStatus};
use jiff::civil::{Date, date};
use jiff::fmt::temporal::{DateTimeParser, DateTimePrinter};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::sqlite::{SqliteArgumentsBuffer, SqliteTypeInfo, SqliteValueRef};
use sqlx::{Decode, Encode, Postgres, Sqlite, Type};
use std::sync::Arc;

/// The list of a plan's or key's models.
pub(super) type Models = Option<Arc<[Arc<str>]>>;

/// A day as a column or a parameter: a text in SQLite, a date in Postgres.
#[derive(Debug, Clone, Copy)]
pub(super) struct DayColumn(pub Day);

impl DayColumn {
    /// How SQLite stores it.
    pub(super) fn text(self) -> String {
        self.0.to_string()
    }
}

impl Type<Sqlite> for DayColumn {
    fn type_info() -> SqliteTypeInfo {
        <str as Type<Sqlite>>::type_info()
    }
}

impl Encode<'_, Sqlite> for DayColumn {
    fn encode_by_ref(&self, buffer: &mut SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode(self.text(), buffer)
    }
}

impl<'r> Decode<'r, Sqlite> for DayColumn {
    fn decode(value: SqliteValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(<&str as Decode<Sqlite>>::decode(value)?.parse()?))
    }
}

/// The object id of the type `date`, and the day that Postgres counts from.
const PG_DATE: Oid = Oid(1082);
const PG_EPOCH: Date = date(2000, 1, 1);

impl Type<Postgres> for DayColumn {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(PG_DATE)
    }

    fn compatible(info: &PgTypeInfo) -> bool {
        info.oid() == Some(PG_DATE)
    }
}

impl Encode<'_, Postgres> for DayColumn {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode((self.0.0 - PG_EPOCH).get_days(), buffer)
    }
}

impl<'r> Decode<'r, Postgres> for DayColumn {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        Ok(Self(match value.format() {
            PgValueFormat::Binary => {
                let days = <i32 as Decode<Postgres>>::decode(value)?;
                Day(PG_EPOCH.checked_add(Span::new().try_days(days)?)?)
            }
            PgValueFormat::Text => value.as_str()?.parse()?,
        }))
    }
}

/// A count as an integer column. Both databases end at `i64::MAX`; a limit above it is never reached.
pub(super) fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn count(stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| unexpected("count", &stored.to_string()))
}

pub(super) fn small(stored: i64) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(|_| unexpected("number", &stored.to_string()))
}

pub(super) fn fraction(thousandths: i64) -> Result<CachedTokenFraction, StoreError> {
    let fraction = u16::try_from(thousandths).ok().and_then(CachedTokenFraction::from_thousandths);
    fraction.ok_or_else(|| unexpected("fraction in thousandths", &thousandths.to_string()))
}

/// The SHA-256 of a text.
pub(super) fn digest(text: &str) -> Vec<u8> {
    Sha256::digest(text).to_vec()
}

/// The text without NUL characters, which Postgres cannot store.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The `like` pattern, with the escape `\`, that finds names which contain `part`. One or two letters only
/// match the beginning: too many names contain them, and the index of parts starts at three.
pub(super) fn searched(part: &str) -> String {
    let is_short = part.chars().nth(2).is_none();
    let mut pattern = String::from(if is_short { "" } else { "%" });
    for letter in text(part).chars() {
        if matches!(letter, '\\' | '%' | '_') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern + "%"
}

pub(super) fn instant(stored: i64) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(stored).map_err(|e| unexpected("time", &e.to_string()))
}

pub(super) fn status(stored: &str) -> Result<Status, StoreError> {
    word(&Status::ALL, Status::as_str, stored)
}

pub(super) fn source(stored: &str) -> Result<Source, StoreError> {
    word(&[Source::Reported, Source::Estimated], Source::as_str, stored)
}

pub(super) fn role(stored: &str) -> Result<Role, StoreError> {
    word(&Role::ALL, Role::as_str, stored)
}

pub(super) fn user_status(stored: &str) -> Result<UserStatus, StoreError> {
    word(&UserStatus::ALL, UserStatus::as_str, stored)
}

pub(super) fn session_kind(stored: &str) -> Result<SessionKind, StoreError> {
    word(&SessionKind::ALL, SessionKind::as_str, stored)
}

pub(super) fn upgrade_status(stored: &str) -> Result<UpgradeStatus, StoreError> {
    word(&UpgradeStatus::ALL, UpgradeStatus::as_str, stored)
}

pub(super) fn level(stored: &str) -> Result<Level, StoreError> {
    word(&[Level::Info, Level::Warning], Level::as_str, stored)
}

fn word<T: Copy>(all: &[T], as_str: fn(T) -> &'static str, stored: &str) -> Result<T, StoreError> {
    let found = all.iter().copied().find(|value| as_str(*value) == stored);
    found.ok_or_else(|| unexpected("word", stored))
}

pub(super) fn models_text(models: &Models) -> Option<String> {
    models.as_ref().map(|models| json!(models).to_string())
}

pub(super) fn models(stored: Option<&str>) -> Result<Models, StoreError> {
    let read = |text| serde_json::from_str(text).map_err(|_| unexpected("list of models", text));
    stored.map(read).transpose()
}

/// Counts are cut to what [`integer`] can store, as are the limits that they override.
pub(super) fn overrides_text(overrides: &LimitOverrides) -> Option<String> {
    let fitting = |limit: Option<u64>| limit.map(|count| count.min(i64::MAX.unsigned_abs()));
    let overrides = LimitOverrides {
        tokens_per_day: fitting(overrides.tokens_per_day),
        requests_per_day: fitting(overrides.requests_per_day),
        ..overrides.clone()
    };
    (!overrides.is_empty()).then(|| json!(overrides).to_string())
}

pub(super) fn overrides(stored: Option<&str>) -> Result<LimitOverrides, StoreError> {
    let read = |text| serde_json::from_str(text).map_err(|_| unexpected("set of limits", text));
    stored.map_or_else(|| Ok(LimitOverrides::default()), read)
}

/// All fields, so that a new default does not silently change a plan.
pub(super) fn policy_text(policy: &RequestPolicy) -> String {
    json!(policy).to_string()
}

pub(super) fn policy(stored: &str) -> Result<RequestPolicy, StoreError> {
    serde_json::from_str(stored).map_err(|_| unexpected("request policy", stored))
}

pub(super) fn json_text(value: Option<&Value>) -> Option<String> {
    value.map(Value::to_string)
}

pub(super) fn json(stored: Option<&str>) -> Result<Option<Value>, StoreError> {
    let read = |text| serde_json::from_str(text).map_err(|_| unexpected("JSON value", text));
    stored.map(read).transpose()
}

pub(super) fn time_zone_text(zone: &TimeZone) -> Result<String, StoreError> {
    let text = DateTimePrinter::new().time_zone_to_string(zone);
    text.map_err(|e| unexpected("time zone", &e.to_string()))
}

pub(super) fn time_zone(stored: &str) -> Result<TimeZone, StoreError> {
    let zone = DateTimeParser::new().parse_time_zone(stored);
    zone.map_err(|_| unexpected("time zone", stored))
}

pub(super) fn fingerprint(stored: &[u8]) -> Result<Fingerprint, StoreError> {
    let bytes = stored.try_into();
    bytes.map(Fingerprint).map_err(|_| unexpected("fingerprint", "(bytes)"))
}

pub(super) fn sealed_secret(stored: &[u8]) -> Result<SealedSecret, StoreError> {
    let bytes = stored.try_into();
    bytes.map(SealedSecret).map_err(|_| unexpected("sealed secret", "(bytes)"))
}

fn unexpected(what: &str, stored: &str) -> StoreError {
    StoreError::Corrupt(format!("`{stored}` is not a {what}"))
}

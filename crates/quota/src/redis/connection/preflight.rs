//! Checks the version, settings and clock of a Redis before the gateway relies on it.
//!
//! Uses only commands that managed services allow too: `INFO` and `TIME`. Except for the version, only
//! problems are reported.

use super::RedisConn;
use jiff::Timestamp;
use redis::{RedisError, Value};
use std::collections::HashMap;

/// First version with script flags (`#!lua flags=...`).
const OLDEST_VERSION: (u32, u32) = (7, 0);
/// Clock differences, in seconds, that cause a warning, and a refusal because days would end wrongly.
const CLOCK_WARNING_SECONDS: i64 = 5;
const CLOCK_REFUSAL_SECONDS: i64 = 60 * 60;

/// Result of one check of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// One sentence: the problem and its solution.
    pub text: String,
}

/// Effect of a finding on the start of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The check passed.
    Ok,
    /// The gateway works, but data may be lost.
    Warning,
    /// Quotas would not be enforced, so the gateway does not start.
    Refusal,
}

/// Checks Redis, on each node of a cluster. Findings that several nodes share are reported once.
///
/// # Errors
/// One sentence if Redis does not answer.
pub async fn check_server(connection: &RedisConn, now: Timestamp) -> Result<Vec<Finding>, String> {
    let no_answer = |e: RedisError| format!("cannot read the settings of Redis: {e}");
    // Without section names, because unsupported older servers accept only one.
    let info: Value = connection.send(&redis::cmd("INFO")).await.map_err(no_answer)?;
    let time: Value = connection.send(&redis::cmd("TIME")).await.map_err(no_answer)?;

    let mut findings = Vec::new();
    for text in texts(&info) {
        findings.extend(from_info(&text));
        if !connection.is_cluster() && text.contains("cluster_enabled:1") {
            findings.push(refusal(LONE_NODE.to_owned()));
        }
    }
    for time in texts(&time).chunks(2) {
        let seconds = time[0].parse().map_err(|_| "Redis does not report its time".to_owned())?;
        findings.extend(from_clock(seconds, now));
    }
    if !findings.iter().any(|finding| finding.text == NO_AOF) {
        // Managed services do not report it.
        let setting = connection.send(redis::cmd("CONFIG").arg("GET").arg("appendfsync")).await;
        for pair in texts(&setting.unwrap_or(Value::Nil)).chunks(2) {
            findings.extend(pair.get(1).and_then(|setting| from_appendfsync(setting)));
        }
    }
    let mut unique: Vec<Finding> = Vec::new();
    for finding in findings {
        if !unique.contains(&finding) {
            unique.push(finding);
        }
    }
    Ok(unique)
}

/// Checks that Redis accepts writes, which the gateway needs: a server may reject them and answer everything
/// else.
///
/// # Errors
/// One sentence if it does not.
pub async fn takes_writes(connection: &RedisConn) -> Result<(), String> {
    let mut write = redis::cmd("SET");
    write.arg("kx:check").arg(1).arg("PX").arg(1000);
    match connection.send::<Value>(&write).await {
        // An account without permission for this key may still write the keys of the gateway.
        Err(e) if e.code() == Some("NOPERM") => Ok(()),
        Err(e) => Err(format!("Redis is not writable, so every call would be refused: {e}")),
        Ok(_) => Ok(()),
    }
}

const NO_AOF: &str = "Redis has no append-only file: a restart loses every charge that is not yet in \
the ledger, and the counters until they are rebuilt from it; set \
    `appendonly yes`";
const EVERY_SECOND: &str = "Redis syncs to disk every second (`appendfsync everysec`): up to two \
seconds of acknowledged writes can be lost if its machine fails; running gateways \
resend theirs";
const WHENEVER: &str = "Redis lets the operating system decide when to sync to disk (`appendfsync no`): \
half a minute of acknowledged writes can be lost if its machine fails; running gateways \
resend theirs";
const NO_MINIMUM: &str = "Redis acknowledges writes before a replica has them: a failover loses those that no replica \
has; set `min-replicas-to-write 1` so that an isolated master stops accepting writes";

const LONE_NODE: &str = "Redis is a cluster, but REDIS_URL has one address, which means a single \
server; set several nodes of the cluster, comma-separated, or the same address twice";

/// Returns the findings of a reply to `INFO`.
fn from_info(info: &str) -> Vec<Finding> {
    let fields: HashMap<&str, &str> =
        info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let field = |name: &str| fields.get(name).copied();
    let number = |name: &str| field(name).and_then(|value| value.parse::<u64>().ok());
    let mut findings = vec![from_version(field("redis_version"))];
    match (field("maxmemory_policy"), number("maxmemory")) {
        (None | Some("noeviction"), _) => {}
        (Some(policy), Some(0) | None) => findings.push(warning(&format!(
            "Redis has the memory policy `{policy}`: with a `maxmemory`, it would evict counters, \
and quotas would be exceeded; set `maxmemory-policy noeviction`"
        ))),
        (Some(policy), Some(_)) => findings.push(refusal(format!(
            "Redis may evict counters when its memory is full, and quotas would be \
exceeded; set `maxmemory-policy noeviction` in place of `{policy}`"
        ))),
    }
    if field("aof_enabled") == Some("0") {
        findings.push(warning(NO_AOF));
    }
    let has_minimum = field("min_slaves_good_slaves").is_some();
    if number("connected_slaves").is_some_and(|replicas| replicas > 0) && !has_minimum {
        findings.push(warning(NO_MINIMUM));
    }
    findings
}

fn from_version(version: Option<&str>) -> Finding {
    let Some(text) = version else {
        return warning("Redis does not report its version; 7.0 or newer is required");
    };
    let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let number = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if number < OLDEST_VERSION {
        return refusal(format!("Redis {text} is too old; 7.0 or newer is required"));
    }
    Finding { severity: Severity::Ok, text: format!("Redis {text}") }
}

fn from_clock(seconds: i64, now: Timestamp) -> Option<Finding> {
    let ahead = seconds.saturating_sub(now.as_second());
    let distance = ahead.saturating_abs();
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let text = format!(
        "the clock of Redis is {distance} s {side} the clock of this machine, and quota days end by it; \
synchronize both with NTP"
    );
    if distance > CLOCK_REFUSAL_SECONDS {
        return Some(refusal(text));
    }
    (distance > CLOCK_WARNING_SECONDS).then(|| warning(&text))
}

fn from_appendfsync(setting: &str) -> Option<Finding> {
    match setting {
        "everysec" => Some(warning(EVERY_SECOND)),
        "no" => Some(warning(WHENEVER)),
        _ => None,
    }
}

fn warning(text: &str) -> Finding {
    Finding { severity: Severity::Warning, text: text.to_owned() }
}

fn refusal(text: String) -> Finding {
    Finding { severity: Severity::Refusal, text }
}

/// All texts of an answer, in order. A cluster answers by node: the nodes' names are left out.
fn texts(answer: &Value) -> Vec<String> {
    match answer {
        Value::BulkString(bytes) => vec![String::from_utf8_lossy(bytes).into_owned()],
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => vec![text.clone()],
        Value::Int(number) => vec![number.to_string()],
        Value::Array(answers) => answers.iter().flat_map(texts).collect(),
        Value::Map(answers) => answers.iter().flat_map(|(_, answer)| texts(answer)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(info: &str) -> Vec<(Severity, String)> {
        let info = info.replace(' ', "\r\n");
        from_info(&info).into_iter().map(|finding| (finding.severity, finding.text)).collect()
    }

    #[test]
    fn what_info_says_is_judged() {
        use Severity::{Ok, Refusal, Warning};
        let fine = "redis_version:7.2.4 maxmemory:0 maxmemory_policy:noeviction aof_enabled:1";
        for (info, expected) in [
            ("redis_version:7.0.15", &[(Ok, "Redis 7.0.15")][..]),
            ("redis_version:10.1-rc1", &[(Ok, "Redis 10.1-rc1")]),
            ("redis_version:6.2.19", &[(Refusal, "6.2.19 is too old")]),
            ("redis_version:new", &[(Refusal, "too old")]),
            ("", &[(Warning, "does not report its version")]),
            (fine, &[(Ok, "Redis 7.2.4")]),
            ("redis_version:7.0 aof_enabled:0", &[(Ok, ""), (Warning, "no append-only file")]),
            (
                "redis_version:7.0 maxmemory:1048576 maxmemory_policy:allkeys-lru",
                &[(Ok, ""), (Refusal, "in place of `allkeys-lru`")],
            ),
            (
                "redis_version:7.0 maxmemory:0 maxmemory_policy:volatile-ttl",
                &[(Ok, ""), (Warning, "`volatile-ttl`")],
            ),
            ("redis_version:7.0 maxmemory:1048576 maxmemory_policy:noeviction", &[(Ok, "")]),
            ("redis_version:7.0 connected_slaves:0", &[(Ok, "")]),
            (
                "redis_version:7.0 connected_slaves:1",
                &[(Ok, ""), (Warning, "`min-replicas-to-write 1`")],
            ),
            ("redis_version:7.0 connected_slaves:1 min_slaves_good_slaves:1", &[(Ok, "")]),
        ] {
            let found = found(info);
            assert_eq!(found.len(), expected.len(), "{info}: {found:?}");
            for ((severity, text), (expected, part)) in found.iter().zip(expected) {
                assert_eq!(severity, expected, "{info}: {text}");
                assert!(text.contains(part) && !text.contains('\n'), "{info}: {text}");
            }
        }
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let now = Timestamp::from_second(1_000_000).expect("a time");
        for (ahead, severity, part) in [
            (0, None, ""),
            (5, None, ""),
            (-5, None, ""),
            (6, Some(Severity::Warning), "6 s ahead of"),
            (-3_600, Some(Severity::Warning), "3600 s behind"),
            (3_601, Some(Severity::Refusal), "3601 s ahead of"),
        ] {
            let found = from_clock(1_000_000 + ahead, now);
            assert_eq!(found.as_ref().map(|finding| finding.severity), severity, "{ahead}");
            assert!(found.is_none_or(|finding| finding.text.contains(part)), "{ahead}");
        }
        assert!(from_clock(i64::MIN, now).is_some());
    }

    #[test]
    fn how_often_it_writes_is_judged() {
        for (setting, part) in
            [("everysec", Some("two seconds")), ("always", None), ("no", Some("half a minute"))]
        {
            let found = from_appendfsync(setting).map(|finding| finding.text);
            assert_eq!(found.is_some(), part.is_some(), "{setting}");
            assert!(found.is_none_or(|text| text.contains(part.unwrap_or_default())));
        }
    }
}

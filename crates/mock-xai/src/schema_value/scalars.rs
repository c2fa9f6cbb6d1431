//! Numbers and strings within the bounds of their schemas.

use super::{Schema, bound};
use serde_json::{Number, Value};

/// The text of strings without a format.
const WORD: &str = "Paris";
/// Whole numbers up to this size are exact as floats.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// A number within the bounds: 1 if they allow it.
pub(super) fn number(layers: &[&Schema], is_integer: bool, index: usize) -> Value {
    let Range { low, high } = Range::of(layers, is_integer);
    let step = keyword(layers, "multipleOf").filter(|step| *step > 0.0);
    let step = step.or(is_integer.then_some(1.0));
    let offset = u32::try_from(index).map_or(0.0, f64::from) * step.unwrap_or(1.0);
    let wanted = (1.0_f64.clamp(low.min(high), high.max(low)) + offset).min(high.max(low));
    let number = match step {
        Some(step) => {
            let above = (wanted / step).ceil() * step;
            if above > high { (high / step).floor() * step } else { above }
        }
        None => wanted,
    };
    to_json(number)
}

fn to_json(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= MAX_EXACT {
        #[expect(clippy::cast_possible_truncation, reason = "whole and in the range of i64")]
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::from(1), Value::Number)
}

/// The numbers that a schema accepts.
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    fn of(layers: &[&Schema], is_integer: bool) -> Self {
        let gap = |range: f64| if is_integer { 1.0 } else { (range / 2.0).min(0.5) };
        let (low, open_low) = edge(layers, "minimum", "exclusiveMinimum");
        let (high, open_high) = edge(layers, "maximum", "exclusiveMaximum");
        let width = low.zip(high).map_or(1.0, |(low, high)| (high - low).max(0.0));
        let low = low.map_or(f64::MIN, |low| if open_low { low + gap(width) } else { low });
        let high = high.map_or(f64::MAX, |high| if open_high { high - gap(width) } else { high });
        Self { low, high }
    }
}

/// A bound and whether it is excluded itself. `exclusive` is a number, or true in old schemas.
fn edge(layers: &[&Schema], inclusive: &str, exclusive: &str) -> (Option<f64>, bool) {
    if let Some(bound) = keyword(layers, exclusive) {
        return (Some(bound), true);
    }
    let is_open = layers.iter().any(|layer| layer.get(exclusive) == Some(&Value::Bool(true)));
    (keyword(layers, inclusive), is_open)
}

fn keyword(layers: &[&Schema], keyword: &str) -> Option<f64> {
    layers.iter().find_map(|layer| layer.get(keyword)?.as_f64())
}

/// A string of the format and the length, and of no more than `room` bytes.
pub(super) fn string(layers: &[&Schema], index: usize, room: usize) -> String {
    let format = layers.iter().find_map(|layer| layer.get("format")?.as_str());
    if let Some(text) = format.and_then(formatted).filter(|text| text.len() <= room) {
        return text.to_owned();
    }
    let mut text = WORD.to_owned();
    if index > 0 {
        text = format!("{index}{WORD}");
    }
    let least = bound(layers, "minLength").unwrap_or(0).min(room);
    while text.len() < least {
        text.push_str(WORD);
    }
    let most = bound(layers, "maxLength").unwrap_or(usize::MAX);
    text.truncate(most.min(room));
    text
}

fn formatted(format: &str) -> Option<&'static str> {
    Some(match format {
        "date-time" => "2026-01-01T00:00:00Z",
        "date" => "2026-01-01",
        "time" => "00:00:00Z",
        "duration" => "PT1M",
        "email" | "idn-email" => "ada@example.com",
        "uri" | "url" | "iri" => "https://example.com/",
        "uri-reference" => "/paris",
        "hostname" => "example.com",
        "ipv4" => "192.0.2.1",
        "ipv6" => "2001:db8::1",
        "uuid" => "00000000-0000-4000-8000-000000000000",
        _ => return None,
    })
}

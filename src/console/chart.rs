//! Bar charts as SVG. The numbers stand in a table beside the chart, for those who cannot see it.

use super::format::short_count;
use std::fmt::Write as _;

const WIDTH: usize = 720;
const HEIGHT: usize = 160;
/// Room for the scale above and the labels below the bars.
const MARGIN: usize = 20;

/// A bar: its label on the axis and its value.
pub struct Bar {
    pub label: String,
    pub value: u64,
}

/// The chart of `bars`, described by `title`. Colours come from the style sheet.
#[must_use]
pub fn bars(title: &str, bars: &[Bar]) -> String {
    let highest = bars.iter().map(|bar| bar.value).max().unwrap_or(0).max(1);
    let slot = WIDTH / bars.len().max(1);
    let mut svg = format!(
        r#"<svg class="chart" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" aria-label="{}"><text class="scale" x="0" y="12">{}</text>"#,
        escaped(title),
        short_count(highest),
    );
    let room = HEIGHT - 2 * MARGIN;
    // Labels of about 40 units each.
    let every = bars.len().div_ceil(WIDTH / 60).max(1);
    for (position, bar) in bars.iter().enumerate() {
        let height = height_of(bar.value, highest, room);
        let (x, y) = (position * slot, HEIGHT - MARGIN - height);
        let _ = write!(
            svg,
            r#"<rect x="{}" y="{y}" width="{}" height="{height}" rx="2"><title>{}: {}</title></rect>"#,
            x + 1,
            slot.saturating_sub(2).max(1),
            escaped(&bar.label),
            bar.value,
        );
        if position % every == 0 {
            let _ =
                write!(svg, r#"<text x="{x}" y="{}">{}</text>"#, HEIGHT - 5, escaped(&bar.label));
        }
    }
    svg.push_str("</svg>");
    svg
}

/// At least one unit for a value that is not zero.
fn height_of(value: u64, highest: u64, room: usize) -> usize {
    let share = value as f64 / highest as f64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to the room")]
    let height = (share * room as f64).round() as usize;
    if value > 0 { height.max(1) } else { 0 }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_text_stays_text() {
        let bar = |label: &str, value| Bar { label: label.to_owned(), value };
        let svg = bars(
            "a \"title\" <b>",
            &[bar("<script>", 100), bar("two", 50), bar("three", 0), bar("x", 1)],
        );
        assert!(svg.contains(r#"height="120""#) && svg.contains(r#"height="60""#), "{svg}");
        assert!(svg.contains(r#"height="0""#) && svg.contains(r#"height="1""#), "{svg}");
        assert!(!svg.contains("<script>") && !svg.contains("<b>"), "{svg}");
        assert!(bars("none", &[]).ends_with("</svg>"));
    }
}

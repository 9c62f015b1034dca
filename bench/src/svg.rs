//! Bar charts of Keelson over etcd, written by hand: a bar starts at 1× and reaches to the ratio on
//! a logarithmic scale, so that twice as good and half as good are equally long.

use std::fmt::Write;

/// One bar.
#[derive(Debug, Clone, PartialEq)]
pub struct Bar {
    pub label: String,
    pub ratio: f64,
    /// What the ratio should reach, if there is a goal.
    pub goal: Option<f64>,
}

const LEFT: f64 = 190.0;
const WIDTH: f64 = 480.0;
const ROW: f64 = 24.0;
const TOP: f64 = 58.0;
/// The axis reaches from 1/16 to 16; what is beyond is drawn at the edge and labelled in full.
const OCTAVES: f64 = 4.0;

fn x(ratio: f64) -> f64 {
    let octaves = ratio.max(1e-9).log2().clamp(-OCTAVES, OCTAVES);
    LEFT + WIDTH * (octaves + OCTAVES) / (2.0 * OCTAVES)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A whole SVG document.
pub fn chart(title: &str, more_is_better: bool, bars: &[Bar]) -> String {
    let height = TOP + ROW * bars.len() as f64 + 16.0;
    let full = LEFT + WIDTH + 60.0;
    let better = if more_is_better { "longer to the right is better" } else { "longer to the left is better" };
    let mut svg = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full:.0} {height:.0}" width="{full:.0}" height="{height:.0}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="10" y="18" font-size="14" font-weight="bold" fill="#222">{}</text>
<text x="10" y="34" fill="#666">keelson / etcd, medians; {better}; dashed: goal</text>"##,
        escape(title)
    );
    for tick in [0.0625, 0.25, 0.5, 1.0, 2.0, 4.0, 16.0] {
        let (at, colour) = (x(tick), if tick == 1.0 { "#444" } else { "#ddd" });
        let _ = writeln!(
            svg,
            r##"<line x1="{at:.1}" x2="{at:.1}" y1="{TOP:.0}" y2="{:.0}" stroke="{colour}"/><text x="{at:.1}" y="{:.0}" text-anchor="middle" fill="#666" font-size="10">{tick}×</text>"##,
            height - 12.0,
            TOP - 5.0
        );
    }
    for (i, bar) in bars.iter().enumerate() {
        let top = TOP + ROW * i as f64 + 4.0;
        let (one, end) = (x(1.0), x(bar.ratio));
        let good = if more_is_better { bar.ratio >= 1.0 } else { bar.ratio <= 1.0 };
        let colour = if good { "#2a7f62" } else { "#b5483a" };
        let _ = writeln!(
            svg,
            r##"<text x="{:.0}" y="{:.1}" text-anchor="end" fill="#222">{}</text><rect x="{:.1}" y="{top:.1}" width="{:.1}" height="16" fill="{colour}"/>"##,
            LEFT - 8.0,
            top + 12.0,
            escape(&bar.label),
            one.min(end),
            (end - one).abs().max(1.0)
        );
        if let Some(goal) = bar.goal {
            let at = x(goal);
            let _ = writeln!(
                svg,
                r##"<line x1="{at:.1}" x2="{at:.1}" y1="{:.1}" y2="{:.1}" stroke="#222" stroke-dasharray="3 2"/>"##,
                top - 2.0,
                top + 18.0
            );
        }
        let (at, anchor) = if end >= one { (end + 5.0, "start") } else { (end - 5.0, "end") };
        let _ = writeln!(
            svg,
            r##"<text x="{at:.1}" y="{:.1}" text-anchor="{anchor}" fill="#222" font-size="11">{:.2}×</text>"##,
            top + 12.0,
            bar.ratio
        );
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_stay_on_the_page() {
        assert_eq!(x(1.0), LEFT + WIDTH / 2.0);
        assert_eq!((x(0.0), x(1e9)), (LEFT, LEFT + WIDTH));
        let bar = Bar { label: "a<b".into(), ratio: 0.5, goal: Some(0.6) };
        let svg = chart("CPU", false, &[bar]);
        assert!(svg.contains("a&lt;b") && svg.contains("0.50×") && svg.ends_with("</svg>\n"));
    }
}

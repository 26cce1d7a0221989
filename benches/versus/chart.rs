//! The chart for the README: CPU time per request, a group of bars per scenario.
//!
//! In: groups of bars. Out: an SVG text without scripts or outside resources. Owns nothing. Always true: within a
//! group a bar's length is the ratio that the table shows too, and all groups share the scale "HAProxy is 1", so that
//! 20 microseconds and 2,000 both can be read; each bar has its number in microseconds as text.

use std::fmt::Write;

use crate::report::grouped;
use crate::scenario::Proxy;

/// One bar.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    /// Whose.
    pub proxy: Proxy,
    /// CPU microseconds per request: the number beside the bar.
    pub value: f64,
    /// In relation to HAProxy (or to the first bar where HAProxy did not run): the length of the bar.
    pub share: f64,
}

/// The bars of a scenario.
#[derive(Clone, Debug)]
pub struct Group {
    /// The scenario's name for people.
    pub title: &'static str,
    /// At least one bar.
    pub bars: Vec<Bar>,
}

const WIDTH: f64 = 860.0;
/// Where the bars begin; the titles stand left of it.
const LEFT: f64 = 270.0;
/// Where the longest bar may end; its number stands right of it.
const RIGHT: f64 = 750.0;
const BAR: f64 = 14.0;
const BAR_GAP: f64 = 3.0;
const GROUP_GAP: f64 = 18.0;
const TOP: f64 = 78.0;

/// Colours that stand out on white and on GitHub's dark background; text follows the reader's scheme.
const STYLE: &str = "text{font:13px -apple-system,BlinkMacSystemFont,'Segoe UI','Noto Sans',Helvetica,Arial,sans-serif;\
fill:#1f2328}.head{font-size:16px;font-weight:600}.note,.value{fill:#59636e}.value{font-size:12px}\
.ours{font-weight:600;fill:#1f2328}.haproxy{fill:#8b949e}.nginx{fill:#4c9a6a}.ringgate{fill:#e8590c}\
@media (prefers-color-scheme:dark){text,.ours{fill:#f0f6fc}.note,.value{fill:#9198a1}.value.ours{fill:#f0f6fc}}";

/// Draws the chart.
pub fn svg(groups: &[Group]) -> String {
    let rows: usize = groups.iter().map(|group| group.bars.len()).sum();
    let height = TOP + rows as f64 * (BAR + BAR_GAP) + groups.len() as f64 * GROUP_GAP + 8.0;
    let longest = groups.iter().flat_map(|group| group.bars.iter().map(|bar| bar.share));
    let pixels = (RIGHT - LEFT) / longest.fold(1.0, f64::max);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>CPU time per request: HAProxy, nginx, ringgate</title>\n\
         <style>{STYLE}</style>\n<text class=\"head\" x=\"16\" y=\"26\">CPU time per request, one core</text>\n\
         <text class=\"note\" x=\"16\" y=\"48\">Microseconds; shorter is better. Bars are relative to HAProxy in \
         the same scenario.</text>\n"
    );
    legend(&mut text, groups);
    let mut y = TOP;
    for group in groups {
        draw_group(&mut text, group, y, pixels);
        y += group.bars.len() as f64 * (BAR + BAR_GAP) + GROUP_GAP;
    }
    text.push_str("</svg>\n");
    text
}

fn legend(text: &mut String, groups: &[Group]) {
    let mut x = WIDTH - 16.0;
    for proxy in [Proxy::Ringgate, Proxy::Nginx, Proxy::Haproxy] {
        if groups.iter().any(|group| group.bars.iter().any(|bar| bar.proxy == proxy)) {
            x -= proxy.label().len() as f64 * 8.0 + 30.0;
            let _ = writeln!(
                text,
                "<rect class=\"{}\" x=\"{x}\" y=\"15\" width=\"12\" height=\"12\" rx=\"2\"/>\
                 <text x=\"{}\" y=\"26\">{}</text>",
                proxy.key(),
                x + 17.0,
                proxy.label()
            );
        }
    }
}

fn draw_group(text: &mut String, group: &Group, top: f64, pixels: f64) {
    let middle = top + group.bars.len() as f64 * (BAR + BAR_GAP) / 2.0 + 3.0;
    let _ = writeln!(
        text,
        "<text x=\"{}\" y=\"{middle:.1}\" text-anchor=\"end\">{}</text>",
        LEFT - 12.0,
        group.title
    );
    for (index, bar) in group.bars.iter().enumerate() {
        let y = top + index as f64 * (BAR + BAR_GAP);
        let width = bar.share * pixels;
        let ours = if bar.proxy == Proxy::Ringgate { " ours" } else { "" };
        let _ = writeln!(
            text,
            "<rect class=\"{}\" x=\"{LEFT}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>\
             <text class=\"value{ours}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            bar.proxy.key(),
            LEFT + width + 6.0,
            y + BAR - 3.0,
            label(group, bar)
        );
    }
}

/// The number, and for ringgate its share of HAProxy's.
fn label(group: &Group, bar: &Bar) -> String {
    let number = if bar.value < 100.0 { format!("{:.1}", bar.value) } else { grouped(bar.value) };
    let haproxy = group.bars.iter().any(|bar| bar.proxy == Proxy::Haproxy);
    if bar.proxy == Proxy::Ringgate && haproxy {
        format!("{number} ({:.0} %)", bar.share * 100.0)
    } else {
        number
    }
}

#[cfg(test)]
#[allow(unused, reason = "only tests.rs has a harness")]
mod tests {
    use super::*;

    fn group(values: &[(Proxy, f64)]) -> Group {
        let bars =
            values.iter().map(|&(proxy, value)| Bar { proxy, value, share: value / values[0].1 }).collect();
        Group { title: "Keep-alive", bars }
    }

    #[test]
    fn bars_are_as_long_as_their_share_of_haproxy() {
        let all = [(Proxy::Haproxy, 20.0), (Proxy::Nginx, 15.0), (Proxy::Ringgate, 10.0)];
        let text = svg(&[group(&all)]);
        for (class, width) in [("haproxy", "480.0"), ("nginx", "360.0"), ("ringgate", "240.0")] {
            assert!(text.contains(&format!("<rect class=\"{class}\" x=\"270\"")), "{text}");
            assert!(text.contains(&format!("width=\"{width}\"")), "{width} in {text}");
        }
        assert!(text.contains(">10.0 (50 %)</text>"));
    }

    #[test]
    fn the_longest_bar_fits() {
        let text = svg(&[group(&[(Proxy::Haproxy, 10.0), (Proxy::Nginx, 40.0)])]);
        assert!(text.contains("width=\"480.0\"") && text.contains("width=\"120.0\""), "{text}");
    }

    #[test]
    fn is_well_formed_without_haproxy_and_without_anything() {
        for groups in [vec![], vec![group(&[(Proxy::Ringgate, 3.0)])]] {
            let text = svg(&groups);
            assert!(text.starts_with("<svg ") && text.trim_end().ends_with("</svg>"));
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            assert_eq!(text.matches("<text").count(), text.matches("</text>").count());
        }
    }
}

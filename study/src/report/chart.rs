//! Charts as SVG. Colours are the page's: a strategy has a class of its number.

use maud::{Markup, html};

use super::bytes;
use super::treemap::{Area, squarified};
use crate::compare::{Comparison, Contended};

/// The width of a chart in its own units, which are CSS pixels where there is room.
const WIDTH: f64 = 560.0;

/// A coordinate, to a tenth of a pixel.
fn at(number: f64) -> String {
    format!("{number:.1}")
}

/// A few round values from 0 up to no more than `most`.
fn ticks(most: f64) -> Vec<f64> {
    let rough = most.max(1.0) / 4.0;
    let unit = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|step| step * unit).into_iter().find(|step| *step >= rough).unwrap_or(unit);
    (0..).map(|number| f64::from(number) * step).take_while(|tick| *tick <= most * 1.0001).collect()
}

/// A size without a digit too many, for an axis.
fn tick_label(value: f64) -> String {
    bytes(value.round() as u64).replace(".0 ", " ")
}

/// One panel a strategy, all on one logarithmic scale, with the floor in grey.
pub(super) fn per_release(comparison: &Comparison, strategies: &[Contended]) -> Markup {
    let measured = comparison.releases.len() - comparison.measured..;
    let floor = &comparison.floor.series.pushed[measured.clone()];
    let series: Vec<&[u64]> = strategies.iter().map(|of| &of.series.pushed[measured.clone()]).collect();
    let shown = || series.iter().copied().chain([floor]).flatten().map(|bytes| *bytes as f64);
    let high = shown().fold(10.0, f64::max).log10().ceil();
    // Decades in which next to nothing happens would leave no room for the others.
    let low = shown()
        .filter(|bytes| *bytes > 0.0)
        .fold(f64::MAX, f64::min)
        .log10()
        .floor()
        .clamp(high - 5.0, high - 1.0);
    html! {
        div.panels {
            @for (number, (strategy, series)) in strategies.iter().zip(&series).enumerate() {
                (panel(comparison, number, strategy, series, floor, (low.max(0.0), high)))
            }
        }
    }
}

fn panel(
    comparison: &Comparison,
    number: usize,
    strategy: &Contended,
    series: &[u64],
    floor: &[u64],
    (low, high): (f64, f64),
) -> Markup {
    const PANEL: f64 = 360.0;
    const HEIGHT: f64 = 190.0;
    const LEFT: f64 = 58.0;
    const RIGHT: f64 = PANEL - 10.0;
    const TOP: f64 = 28.0;
    const BOTTOM: f64 = HEIGHT - 24.0;
    let names = &comparison.releases[comparison.releases.len() - comparison.measured..];
    let x = |at: usize| match series.len() {
        1 => f64::midpoint(LEFT, RIGHT),
        count => LEFT + (RIGHT - LEFT) * at as f64 / (count - 1) as f64,
    };
    let y = |bytes: f64| {
        let part = (bytes.max(1.0).log10() - low) / (high - low);
        BOTTOM - (BOTTOM - TOP) * part.clamp(0.0, 1.0)
    };
    let points = |series: &[u64]| {
        let points = series
            .iter()
            .enumerate()
            .map(|(place, bytes)| format!("{},{}", at(x(place)), at(y(*bytes as f64))));
        points.collect::<Vec<_>>().join(" ")
    };
    let decades = (low as i32..=high as i32).map(|decade| 10f64.powi(decade));
    html! {
        svg role="img" viewBox=(format!("0 0 {PANEL} {HEIGHT}")) class=(format!("s{}", number % COLOURS)) {
            text.name x=(LEFT) y="16" { (strategy.strategy) }
            text.faint x=(RIGHT) y="16" text-anchor="end" { "mean " (bytes(strategy.summary.pushed.mean)) }
            @for decade in decades {
                line.grid x1=(at(LEFT)) x2=(at(RIGHT)) y1=(at(y(decade))) y2=(at(y(decade))) {}
                text.faint x=(at(LEFT - 6.0)) y=(at(y(decade) + 4.0)) text-anchor="end" { (tick_label(decade)) }
            }
            polyline.of-floor points=(points(floor)) {}
            polyline.stroke points=(points(series)) {}
            @for ((place, bytes), name) in series.iter().enumerate().zip(names) {
                circle.fill cx=(at(x(place))) cy=(at(y(*bytes as f64))) r="2" {
                    title { (name) ": " (super::bytes(*bytes)) ", floor " (super::bytes(floor[place])) }
                }
            }
            @if let [first, .., last] = names {
                text.faint x=(at(LEFT)) y=(at(HEIGHT - 8.0)) { (first) }
                text.faint x=(at(RIGHT)) y=(at(HEIGHT - 8.0)) text-anchor="end" { (last) }
            }
        }
    }
}

/// How many colours there are for strategies; more of them share.
pub(super) const COLOURS: usize = 7;

/// A bar of a mean and a bar of a 95th percentile for each strategy, and the floor's mean as a line.
pub(super) fn spreads(
    comparison: &Comparison,
    strategies: &[Contended],
    of: fn(&Contended) -> crate::summary::Spread,
) -> Markup {
    const LEFT: f64 = 112.0;
    const RIGHT: f64 = WIDTH - 84.0;
    const TOP: f64 = 26.0;
    const ROW: f64 = 42.0;
    let bottom = TOP + ROW * strategies.len() as f64;
    let most =
        strategies.iter().map(|strategy| of(strategy).p95.max(of(strategy).mean)).max().unwrap_or(1).max(1)
            as f64;
    let x = |bytes: f64| LEFT + (RIGHT - LEFT) * bytes / most;
    let floor = of(&comparison.floor);
    html! {
        svg role="img" viewBox=(format!("0 0 {WIDTH} {}", bottom + 26.0)) {
            @for tick in ticks(most) {
                line.grid x1=(at(x(tick))) x2=(at(x(tick))) y1=(TOP) y2=(at(bottom)) {}
                text.faint x=(at(x(tick))) y=(at(bottom + 17.0)) text-anchor="middle" { (tick_label(tick)) }
            }
            @for (number, strategy) in strategies.iter().enumerate() {
                @let top = TOP + ROW * number as f64 + 5.0;
                g class=(format!("s{}", number % COLOURS)) {
                    text x=(at(LEFT - 8.0)) y=(at(top + 20.0)) text-anchor="end" { (strategy.strategy) }
                    @for (row, (kind, bytes)) in [("mean", of(strategy).mean), ("p95", of(strategy).p95)].into_iter().enumerate() {
                        @let y = top + 16.0 * row as f64;
                        rect.fill.(kind) x=(LEFT) y=(at(y)) width=(at(x(bytes as f64) - LEFT)) height="14" {
                            title { (strategy.strategy) ", " (kind) ": " (super::bytes(bytes)) }
                        }
                        text.number x=(at(x(bytes as f64) + 5.0)) y=(at(y + 11.5)) { (super::bytes(bytes)) }
                    }
                }
            }
            line.of-floor x1=(at(x(floor.mean as f64))) x2=(at(x(floor.mean as f64))) y1=(at(TOP - 4.0)) y2=(at(bottom)) {}
            text.faint x=(at(x(floor.mean as f64).max(LEFT + 40.0))) y="16" text-anchor="middle" { "floor, mean " (bytes(floor.mean)) }
        }
    }
}

/// Bytes in the registry, release by release.
pub(super) fn registry(comparison: &Comparison, strategies: &[Contended]) -> Markup {
    const LEFT: f64 = 64.0;
    const RIGHT: f64 = WIDTH - 158.0;
    const TOP: f64 = 14.0;
    const BOTTOM: f64 = 262.0;
    const LINE: f64 = 15.0;
    let all: Vec<(String, &Contended)> = strategies
        .iter()
        .enumerate()
        .map(|(number, strategy)| (format!("s{}", number % COLOURS), strategy))
        .chain([("floor".to_owned(), &comparison.floor)])
        .collect();
    let most = all.iter().map(|(_, of)| of.summary.registry).max().unwrap_or(1).max(1) as f64;
    let count = comparison.releases.len();
    let x = |place: usize| LEFT + (RIGHT - LEFT) * place as f64 / (count - 1).max(1) as f64;
    let y = |bytes: f64| BOTTOM - (BOTTOM - TOP) * bytes / most;
    let mut labels: Vec<(f64, &str, &Contended)> =
        all.iter().map(|(class, of)| (y(of.summary.registry as f64), class.as_str(), *of)).collect();
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    // Labels that would lie on each other move down, and then all of them up from the axis.
    for place in 1..labels.len() {
        labels[place].0 = labels[place].0.max(labels[place - 1].0 + LINE);
    }
    let mut lowest = BOTTOM;
    for label in labels.iter_mut().rev() {
        label.0 = label.0.min(lowest);
        lowest = label.0 - LINE;
    }
    html! {
        svg role="img" viewBox=(format!("0 0 {WIDTH} 290")) {
            @for tick in ticks(most) {
                line.grid x1=(LEFT) x2=(RIGHT) y1=(at(y(tick))) y2=(at(y(tick))) {}
                text.faint x=(LEFT - 6.0) y=(at(y(tick) + 4.0)) text-anchor="end" { (tick_label(tick)) }
            }
            @for (class, of) in &all {
                @let points: Vec<String> = of.series.registry.iter().enumerate()
                    .map(|(place, bytes)| format!("{},{}", at(x(place)), at(y(*bytes as f64)))).collect();
                polyline class=(format!("stroke {class}")) points=(points.join(" ")) {
                    title { (of.strategy) ": " (bytes(of.summary.registry)) }
                }
            }
            @for (y, class, of) in &labels {
                g class=(class) {
                    rect.fill x=(RIGHT + 6.0) y=(at(y - 5.0)) width="10" height="10" {}
                    text x=(RIGHT + 21.0) y=(at(y + 4.0)) { (of.strategy) " " tspan.faint { (bytes(of.summary.registry)) } }
                }
            }
            @if let [first, .., last] = comparison.releases.as_slice() {
                text.faint x=(LEFT) y="282" { (first) }
                text.faint x=(RIGHT) y="282" text-anchor="end" { (last) }
            }
        }
    }
}

/// The part that shared layers save, and the most that they could.
pub(super) fn shares(comparison: &Comparison, strategies: &[Contended]) -> Markup {
    const LEFT: f64 = 112.0;
    const RIGHT: f64 = WIDTH - 84.0;
    const TOP: f64 = 26.0;
    const ROW: f64 = 26.0;
    let bottom = TOP + ROW * strategies.len() as f64;
    let x = |part: f64| LEFT + (RIGHT - LEFT) * part;
    let ceiling = comparison.floor.summary.shareable;
    html! {
        svg role="img" viewBox=(format!("0 0 {WIDTH} {}", bottom + 26.0)) {
            @for tick in [0.0, 0.25, 0.5, 0.75, 1.0] {
                line.grid x1=(at(x(tick))) x2=(at(x(tick))) y1=(TOP) y2=(at(bottom)) {}
                text.faint x=(at(x(tick))) y=(at(bottom + 17.0)) text-anchor="middle" { (format!("{:.0} %", tick * 100.0)) }
            }
            @for (number, strategy) in strategies.iter().enumerate() {
                @let top = TOP + ROW * number as f64 + 5.0;
                g class=(format!("s{}", number % COLOURS)) {
                    text x=(at(LEFT - 8.0)) y=(at(top + 12.0)) text-anchor="end" { (strategy.strategy) }
                    rect.fill x=(LEFT) y=(at(top)) width=(at(x(strategy.summary.shared) - LEFT)) height="16" {}
                    text.number x=(at(x(strategy.summary.shared) + 5.0)) y=(at(top + 12.0)) { (super::percent(strategy.summary.shared)) }
                }
            }
            line.of-floor x1=(at(x(ceiling))) x2=(at(x(ceiling))) y1=(at(TOP - 4.0)) y2=(at(bottom)) {}
            text.faint x=(at(x(ceiling))) y="16" text-anchor="middle" { "possible: " (super::percent(ceiling)) }
        }
    }
}

/// How often a layer changes: a class, the part of releases up to which it counts, and what is said of it.
pub(super) const HEATS: [(&str, f64, &str); 5] = [
    ("h0", 0.0, "in none"),
    ("h1", 0.05, "in up to 5 %"),
    ("h2", 0.2, "up to 20 %"),
    ("h3", 0.5, "up to 50 %"),
    ("h4", 1.0, "in more of the releases"),
];

/// The layers of the last release. `most` are the bytes that fill the width: two maps with one are on the same scale.
pub(super) fn layers(comparison: &Comparison, strategy: &Contended, most: u64) -> Markup {
    const HEIGHT: f64 = 420.0;
    let releases = comparison.releases.len() - 1;
    // By area, in the same shape.
    let scale = (strategy.summary.stored as f64 / most.max(1) as f64).sqrt();
    let (width, height) = (WIDTH * scale, HEIGHT * scale);
    let sizes: Vec<u64> = strategy.layers.iter().map(|layer| layer.bytes).collect();
    let areas = squarified(&sizes, Area { x: 0.0, y: 0.0, width, height });
    html! {
        svg role="img" viewBox=(format!("0 0 {WIDTH} {}", at(height))) {
            @for (layer, area) in strategy.layers.iter().zip(areas) {
                @let part = layer.changes as f64 / releases.max(1) as f64;
                @let heat = HEATS.iter().find(|(_, most, _)| part <= *most).map_or("h4", |heat| heat.0);
                g class=(heat) {
                    rect x=(at(area.x)) y=(at(area.y)) width=(at(area.width)) height=(at(area.height)) {
                        title {
                            (bytes(layer.bytes)) ", " (count(layer.paths, "path")) ", in " (count(layer.images.len(), "image"))
                            "; new in " (layer.changes) " of " (count(releases, "release")) ": "
                            (layer.largest.join(", "))
                            @if layer.paths > layer.largest.len() { ", ..." }
                        }
                    }
                    @let room = ((area.width - 8.0) / 6.2).max(0.0) as usize;
                    @if area.height > 30.0 && room >= 8 {
                        text.on x=(at(area.x + 4.0)) y=(at(area.y + 13.0)) { (shortened(&layer.largest.join(", "), room)) }
                        text.on x=(at(area.x + 4.0)) y=(at(area.y + 26.0)) { (bytes(layer.bytes)) }
                    }
                }
            }
        }
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// The begin of a text that is too long for its place.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

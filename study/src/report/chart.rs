//! Charts of a comparison as SVG, drawn by plotters.

use std::io;

use maud::{Markup, PreEscaped, html};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::palette::{self, Colour, FAINT, FLOOR, GRID, INK};
use super::text::{bytes, percent};
use crate::compare::{Comparison, StrategyResult};
use crate::summary::Spread;

/// The width of a chart in pixels, at its natural size.
const WIDTH: f64 = 560.0;

/// Units of the drawing per pixel. plotters has whole coordinates; lines need finer ones.
const UNITS: f64 = 10.0;

/// plotters divides font sizes by this number when it writes SVG.
const FONT_SCALE: f64 = 1.24;

type Canvas<'s> = DrawingArea<SVGBackend<'s>, Shift>;
type Plot<'p> = ChartContext<'p, SVGBackend<'p>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn<T> = Result<T, DrawingAreaErrorKind<io::Error>>;

/// A text that appears when the pointer is over an area, in units of the drawing.
struct Tooltip {
    left: i32,
    top: i32,
    width: i32,
    height: i32,
    text: String,
}

/// Converts pixels to units of the drawing.
fn units(pixels: f64) -> i32 {
    (pixels * UNITS).round() as i32
}

/// Draws a chart. `name` is its accessible name.
fn chart(
    name: &str,
    (width, height): (f64, f64),
    draw: impl FnOnce(&Canvas<'_>) -> Drawn<Vec<Tooltip>>,
) -> Markup {
    let (width, height) = (units(width), units(height));
    let mut svg = String::new();
    let tooltips = {
        let size = (width.unsigned_abs(), height.unsigned_abs());
        let canvas = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let tooltips = draw(&canvas).expect("drawing to memory cannot fail");
        canvas.present().expect("drawing to memory cannot fail");
        tooltips
    };
    // The page writes the `svg` element itself, with a name and without a fixed size.
    let body = svg.split_once('>').and_then(|(_, rest)| rest.rsplit_once("</svg>"));
    let (body, _) = body.expect("plotters writes an svg element");
    html! {
        svg.plot role="img" aria-label=(name) viewBox=(format!("0 0 {width} {height}")) {
            title { (name) }
            (PreEscaped(body))
            @for tip in tooltips {
                rect.tip x=(tip.left) y=(tip.top) width=(tip.width) height=(tip.height) { title { (tip.text) } }
            }
        }
    }
}

/// Returns a style for text of this size in pixels.
fn text(size: f64, colour: Colour, horizontal: HPos) -> TextStyle<'static> {
    let font = ("sans-serif", size * UNITS * FONT_SCALE).into_font();
    font.color(&colour.light).pos(Pos::new(horizontal, VPos::Center))
}

/// Returns a line style of this width in pixels.
fn line(width: f64, colour: Colour) -> ShapeStyle {
    colour.light.stroke_width(units(width).unsigned_abs())
}

/// Returns a few round values from 0 to at most `most`.
fn ticks(most: f64) -> Vec<f64> {
    let rough = most.max(1.0) / 4.0;
    let unit = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|step| step * unit).into_iter().find(|step| *step >= rough).unwrap_or(unit);
    (0..).map(|number| f64::from(number) * step).take_while(|tick| *tick <= most * 1.0001).collect()
}

/// Formats a size for an axis, without superfluous digits.
fn tick_label(value: f64) -> String {
    bytes(value.round() as u64).replace(".0 ", " ")
}

/// Draws a horizontal grid line for each value, with its label on the left.
fn draw_rows(plot: &mut Plot<'_>, values: &[f64], label: impl Fn(f64) -> String) -> Drawn<()> {
    let ends = plot.x_range();
    for value in values {
        plot.draw_series([PathElement::new([(ends.start, *value), (ends.end, *value)], line(1.0, GRID))])?;
        let text = Text::new(label(*value), (units(-6.0), 0), text(11.0, FAINT, HPos::Right));
        plot.draw_series([EmptyElement::at((ends.start, *value)) + text])?;
    }
    Ok(())
}

/// Draws a vertical grid line for each value, with its label below.
fn draw_columns(plot: &mut Plot<'_>, values: &[f64], label: impl Fn(f64) -> String) -> Drawn<()> {
    let ends = plot.y_range();
    for value in values {
        plot.draw_series([PathElement::new([(*value, ends.start), (*value, ends.end)], line(1.0, GRID))])?;
        let text = Text::new(label(*value), (0, units(13.0)), text(11.0, FAINT, HPos::Center));
        plot.draw_series([EmptyElement::at((*value, ends.start)) + text])?;
    }
    Ok(())
}

/// Writes the names of the first and the last release below a plot from `left` to `right`.
fn draw_release_names(canvas: &Canvas<'_>, names: &[String], left: f64, right: f64, y: f64) -> Drawn<()> {
    let [first, .., last] = names else { return Ok(()) };
    canvas.draw(&Text::new(first.as_str(), (units(left), units(y)), text(11.0, FAINT, HPos::Left)))?;
    canvas.draw(&Text::new(last.as_str(), (units(right), units(y)), text(11.0, FAINT, HPos::Right)))
}

/// Draws one panel per strategy with the bytes pushed in each release, all on one logarithmic scale, with the floor in grey.
pub(super) fn per_release(comparison: &Comparison, strategies: &[StrategyResult]) -> Markup {
    let measured = comparison.releases.len() - comparison.measured..;
    let floor = &comparison.floor.series.pushed[measured.clone()];
    let series: Vec<&[u64]> = strategies.iter().map(|of| &of.series.pushed[measured.clone()]).collect();
    let shown = || series.iter().copied().chain([floor]).flatten().map(|bytes| *bytes as f64);
    let high = shown().fold(10.0, f64::max).log10().ceil();
    // Decades with almost no data would leave no room for the others.
    let low = shown()
        .filter(|bytes| *bytes > 0.0)
        .fold(f64::MAX, f64::min)
        .log10()
        .floor()
        .clamp(high - 5.0, high - 1.0);
    html! {
        div.panels {
            @for (number, (strategy, series)) in strategies.iter().zip(&series).enumerate() {
                (panel(comparison, palette::strategy(number), strategy, series, floor, (low.max(0.0), high)))
            }
        }
    }
}

fn panel(
    comparison: &Comparison,
    colour: Colour,
    strategy: &StrategyResult,
    series: &[u64],
    floor: &[u64],
    (low, high): (f64, f64),
) -> Markup {
    const WIDTH: f64 = 360.0;
    const HEIGHT: f64 = 190.0;
    const LEFT: f64 = 58.0;
    const RIGHT: f64 = 10.0;
    const TOP: f64 = 28.0;
    const BOTTOM: f64 = 24.0;
    let names = &comparison.releases[comparison.releases.len() - comparison.measured..];
    let last = series.len().saturating_sub(1).max(1) as f64;
    // A single release is in the middle.
    let x = |at: usize| if series.len() == 1 { 0.5 } else { at as f64 };
    let y = |bytes: u64| (bytes.max(1) as f64).log10().clamp(low, high);
    let points =
        |series: &[u64]| series.iter().enumerate().map(|(at, bytes)| (x(at), y(*bytes))).collect::<Vec<_>>();
    let name = format!("Bytes that {} pushes in each release", strategy.strategy);
    chart(&name, (WIDTH, HEIGHT), |canvas| {
        let decades: Vec<f64> = (low as i32..=high as i32).map(f64::from).collect();
        let mut plot = ChartBuilder::on(canvas)
            .margin_top(units(TOP))
            .margin_right(units(RIGHT))
            .margin_bottom(units(BOTTOM))
            .margin_left(units(LEFT))
            .build_cartesian_2d(0.0..last, low..high)?;
        draw_rows(&mut plot, &decades, |decade| tick_label(10f64.powf(decade)))?;
        plot.draw_series(LineSeries::new(points(floor), line(1.3, FLOOR)))?;
        plot.draw_series(LineSeries::new(points(series), line(1.6, colour)))?;
        let dot = |point| Circle::new(point, units(2.0), colour.light.filled());
        plot.draw_series(points(series).into_iter().map(dot))?;
        let heading = TextStyle::from(("sans-serif", 13.0 * UNITS * FONT_SCALE, FontStyle::Bold))
            .color(&INK.light)
            .pos(Pos::new(HPos::Left, VPos::Center));
        canvas.draw(&Text::new(strategy.strategy.as_str(), (units(LEFT), units(12.0)), heading))?;
        let mean = format!("mean {}", bytes(strategy.summary.pushed.mean));
        let right = WIDTH - RIGHT;
        canvas.draw(&Text::new(mean, (units(right), units(12.0)), text(11.0, FAINT, HPos::Right)))?;
        draw_release_names(canvas, names, LEFT, right, HEIGHT - 12.0)?;
        let tooltip = |((at, pushed), name): ((usize, &u64), &String)| {
            let (x, y) = plot.backend_coord(&(x(at), y(*pushed)));
            let text = format!("{name}: {}, floor {}", bytes(*pushed), bytes(floor[at]));
            let size = units(8.0);
            Tooltip { left: x - size / 2, top: y - size / 2, width: size, height: size, text }
        };
        Ok(series.iter().enumerate().zip(names).map(tooltip).collect())
    })
}

/// A bar of a bar chart.
struct Bar {
    value: f64,
    /// The text at its end.
    label: String,
    tooltip: String,
    opacity: f64,
}

/// Horizontal bars, and a bound as a dashed line.
struct BarChart<'s> {
    /// The accessible name.
    name: &'s str,
    /// Names and bars of the strategies.
    rows: Vec<(&'s str, Vec<Bar>)>,
    /// The end of the scale.
    most: f64,
    ticks: Vec<f64>,
    tick_label: fn(f64) -> String,
    bound: (f64, String),
}

impl BarChart<'_> {
    fn draw(&self, bar_height: f64) -> Markup {
        const LEFT: f64 = 112.0;
        const RIGHT: f64 = 84.0;
        const TOP: f64 = 26.0;
        const BOTTOM: f64 = 26.0;
        const GAP: f64 = 2.0;
        const PADDING: f64 = 5.0;
        let bars = self.rows.iter().map(|(_, bars)| bars.len()).max().unwrap_or(0) as f64;
        let row_height = bars * (bar_height + GAP) - GAP + 2.0 * PADDING;
        let plot_height = row_height * self.rows.len() as f64;
        chart(self.name, (WIDTH, TOP + plot_height + BOTTOM), |canvas| {
            // Vertical coordinates are pixels from the top of the plot.
            let mut plot = ChartBuilder::on(canvas)
                .margin_top(units(TOP))
                .margin_left(units(LEFT))
                .margin_right(units(RIGHT))
                .margin_bottom(units(BOTTOM))
                .build_cartesian_2d(0.0..self.most, plot_height..0.0)?;
            draw_columns(&mut plot, &self.ticks, self.tick_label)?;
            let mut tooltips = Vec::new();
            for (number, (name, bars)) in self.rows.iter().enumerate() {
                let colour = palette::strategy(number);
                let top = row_height * number as f64;
                let at = |x: f64, y: f64, label: &str, offset: f64, style: TextStyle<'static>| {
                    EmptyElement::at((x, y)) + Text::new(label.to_owned(), (units(offset), 0), style)
                };
                let middle = top + row_height / 2.0;
                plot.draw_series([at(0.0, middle, name, -8.0, text(12.0, INK, HPos::Right))])?;
                for (place, bar) in bars.iter().enumerate() {
                    let top = top + PADDING + (bar_height + GAP) * place as f64;
                    let corners = [(0.0, top), (bar.value, top + bar_height)];
                    plot.draw_series([Rectangle::new(corners, colour.light.mix(bar.opacity).filled())])?;
                    let middle = top + bar_height / 2.0;
                    plot.draw_series([at(bar.value, middle, &bar.label, 5.0, text(11.0, INK, HPos::Left))])?;
                    let [(left, top), (right, bottom)] = corners.map(|corner| plot.backend_coord(&corner));
                    let text = bar.tooltip.clone();
                    tooltips.push(Tooltip { left, top, width: right - left, height: bottom - top, text });
                }
            }
            let (bound, label) = &self.bound;
            let dashed = [(*bound, 0.0), (*bound, plot_height)];
            plot.draw_series(DashedLineSeries::new(dashed, units(4.0), units(3.0), line(1.3, FLOOR)))?;
            let (x, _) = plot.backend_coord(&(*bound, 0.0));
            let x = x.max(units(LEFT + 40.0));
            canvas.draw(&Text::new(label.as_str(), (x, units(12.0)), text(11.0, FAINT, HPos::Center)))?;
            Ok(tooltips)
        })
    }
}

/// Draws the mean and the 95th percentile of each strategy as bars, and the floor's mean as a line.
pub(super) fn spreads(
    name: &str,
    comparison: &Comparison,
    strategies: &[StrategyResult],
    of: fn(&StrategyResult) -> Spread,
) -> Markup {
    let most = strategies.iter().map(|strategy| of(strategy).p95.max(of(strategy).mean)).max();
    let most = most.unwrap_or(1).max(1) as f64;
    let rows = strategies.iter().map(|strategy| {
        let bar = |(kind, number, opacity): (&str, u64, f64)| {
            let label = bytes(number);
            let tooltip = format!("{}, {kind}: {label}", strategy.strategy);
            Bar { value: number as f64, label, tooltip, opacity }
        };
        let Spread { mean, p95 } = of(strategy);
        let bars = [("mean", mean, 1.0), ("p95", p95, 0.5)].map(bar);
        (strategy.strategy.as_str(), Vec::from(bars))
    });
    let floor = of(&comparison.floor).mean;
    let bound = (floor as f64, format!("floor, mean {}", bytes(floor)));
    BarChart { name, rows: rows.collect(), most, ticks: ticks(most), tick_label, bound }.draw(14.0)
}

/// Draws the part of all bytes that shared layers save, with the maximum that they could save as a line.
pub(super) fn shares(name: &str, comparison: &Comparison, strategies: &[StrategyResult]) -> Markup {
    let rows = strategies.iter().map(|strategy| {
        let (value, label) = (strategy.summary.shared, percent(strategy.summary.shared));
        let tooltip = format!("{}: {label}", strategy.strategy);
        (strategy.strategy.as_str(), vec![Bar { value, label, tooltip, opacity: 1.0 }])
    });
    let possible = comparison.floor.summary.shareable;
    let bound = (possible, format!("possible: {}", percent(possible)));
    let tick_label = |part: f64| format!("{:.0} %", part * 100.0);
    let ticks = vec![0.0, 0.25, 0.5, 0.75, 1.0];
    BarChart { name, rows: rows.collect(), most: 1.0, ticks, tick_label, bound }.draw(16.0)
}

/// Draws the bytes in the registry after each release.
pub(super) fn registry(name: &str, comparison: &Comparison, strategies: &[StrategyResult]) -> Markup {
    const HEIGHT: f64 = 290.0;
    const LEFT: f64 = 64.0;
    const RIGHT: f64 = 158.0;
    const TOP: f64 = 14.0;
    const BOTTOM: f64 = 28.0;
    const LINE: f64 = 15.0;
    let all: Vec<(Colour, &StrategyResult)> = strategies
        .iter()
        .enumerate()
        .map(|(number, strategy)| (palette::strategy(number), strategy))
        .chain([(FLOOR, &comparison.floor)])
        .collect();
    let most = all.iter().map(|(_, of)| of.summary.registry).max().unwrap_or(1).max(1) as f64;
    let last = (comparison.releases.len() - 1).max(1) as f64;
    chart(name, (WIDTH, HEIGHT), |canvas| {
        let mut plot = ChartBuilder::on(canvas)
            .margin_top(units(TOP))
            .margin_right(units(RIGHT))
            .margin_bottom(units(BOTTOM))
            .margin_left(units(LEFT))
            .build_cartesian_2d(0.0..last, 0.0..most)?;
        draw_rows(&mut plot, &ticks(most), tick_label)?;
        for (colour, of) in &all {
            let points = of.series.registry.iter().enumerate().map(|(at, bytes)| (at as f64, *bytes as f64));
            plot.draw_series(LineSeries::new(points, line(1.6, *colour)))?;
        }
        let ends =
            all.iter().map(|(_, of)| f64::from(plot.backend_coord(&(last, of.summary.registry as f64)).1));
        let labels = spread_labels(ends.collect(), units(LINE).into(), units(HEIGHT - BOTTOM).into());
        let left = WIDTH - RIGHT;
        for ((colour, of), y) in all.iter().zip(labels) {
            let (y, half) = (y.round() as i32, units(5.0));
            let square = [(units(left + 6.0), y - half), (units(left + 16.0), y + half)];
            canvas.draw(&Rectangle::new(square, colour.light.filled()))?;
            let label = format!("{} {}", of.strategy, bytes(of.summary.registry));
            canvas.draw(&Text::new(label, (units(left + 21.0), y), text(12.0, INK, HPos::Left)))?;
        }
        draw_release_names(canvas, &comparison.releases, LEFT, left, HEIGHT - 12.0)?;
        Ok(Vec::new())
    })
}

/// Moves labels apart that would overlap: first down, then up from `lowest`. Returns their positions in the same order.
fn spread_labels(wanted: Vec<f64>, line: f64, lowest: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut places = wanted;
    for pair in 1..order.len() {
        places[order[pair]] = places[order[pair]].max(places[order[pair - 1]] + line);
    }
    let mut lowest = lowest;
    for at in order.into_iter().rev() {
        places[at] = places[at].min(lowest);
        lowest = places[at] - line;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_labels_move_apart() {
        assert_eq!(spread_labels(vec![10.0, 50.0, 12.0], 15.0, 60.0), [10.0, 50.0, 25.0]);
        assert_eq!(spread_labels(vec![58.0, 59.0, 10.0], 15.0, 60.0), [45.0, 60.0, 10.0]);
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(10.0), [0.0, 5.0, 10.0]);
        assert_eq!(ticks(3e9), [0.0, 1e9, 2e9, 3e9]);
        assert_eq!(tick_label(2e9), "2 GB");
    }
}

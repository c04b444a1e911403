//! The map of an image's layers: a rectangle for each layer, with its size as area.
//!
//! This chart is hand-made SVG, because plotters has no treemap: its rectangles would carry neither the class that colours
//! them by their changes nor a tooltip, and it cannot lay them out. The layout is "Squarified Treemaps" by Bruls, Huizing
//! and van Wijk, 2000. (The crate `treemap` implements it too, but omits the last size when it adds the sizes, so its areas
//! are wrong.)

use maud::{Markup, html};

use super::text::bytes;
use crate::compare::{Comparison, StrategyResult};

/// The width of a map in pixels, at its natural size.
const WIDTH: f64 = 560.0;

/// Classes of layers by how often they change: the class, the largest part of releases in it, and its label.
pub(super) const HEATS: [(&str, f64, &str); 5] = [
    ("h0", 0.0, "in no release"),
    ("h1", 0.05, "in up to 5 %"),
    ("h2", 0.2, "up to 20 %"),
    ("h3", 0.5, "up to 50 %"),
    ("h4", 1.0, "in more of the releases"),
];

/// Draws the layers of the last release. `most` is the number of bytes that fills the width; two maps with
/// the same number have the same scale.
pub(super) fn layers(comparison: &Comparison, strategy: &StrategyResult, most: u64) -> Markup {
    const HEIGHT: f64 = 420.0;
    let releases = comparison.releases.len() - 1;
    // Scale by area, and keep the shape.
    let scale = (strategy.summary.stored as f64 / most.max(1) as f64).sqrt();
    let (width, height) = (WIDTH * scale, HEIGHT * scale);
    let sizes: Vec<u64> = strategy.layers.iter().map(|layer| layer.bytes).collect();
    let name = format!("Layers of {} in the last release, by size", strategy.strategy);
    let areas = squarified(&sizes, Area { x: 0.0, y: 0.0, width, height });
    html! {
        svg.map role="img" aria-label=(name) viewBox=(format!("0 0 {WIDTH} {}", at(height))) {
            title { (name) }
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
                        text x=(at(area.x + 4.0)) y=(at(area.y + 13.0)) { (shortened(&layer.largest.join(", "), room)) }
                        text x=(at(area.x + 4.0)) y=(at(area.y + 26.0)) { (bytes(layer.bytes)) }
                    }
                }
            }
        }
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Shortens a text that is too long for its place.
fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Formats a coordinate, to a tenth of a pixel.
fn at(number: f64) -> String {
    format!("{number:.1}")
}

/// A rectangle in the units of the drawing.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Area {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

/// Returns an area for each of `sizes`, except for zeros. `sizes` are sorted, the largest first, and together
/// fill `whole`.
fn squarified(sizes: &[u64], whole: Area) -> Vec<Area> {
    let total: f64 = sizes.iter().map(|size| *size as f64).sum();
    let scale = whole.width * whole.height / total.max(f64::MIN_POSITIVE);
    let mut left: Vec<f64> =
        sizes.iter().filter(|size| **size > 0).map(|size| *size as f64 * scale).collect();
    left.reverse();
    let mut free = whole;
    let mut areas = Vec::with_capacity(left.len());
    while let Some(first) = left.pop() {
        let side = free.width.min(free.height);
        let mut row = vec![first];
        let mut sum = first;
        // Add to the row as long as its worst rectangle does not become worse.
        while let Some(next) = left.last().copied() {
            if worst(sum + next, first, next, side) > worst(sum, first, row[row.len() - 1], side) {
                break;
            }
            row.push(next);
            sum += next;
            left.pop();
        }
        let depth = sum / side.max(f64::MIN_POSITIVE);
        let mut at = 0.0;
        let upright = free.width >= free.height;
        for size in row {
            let length = size / depth.max(f64::MIN_POSITIVE);
            areas.push(match upright {
                true => Area { x: free.x, y: free.y + at, width: depth, height: length },
                false => Area { x: free.x + at, y: free.y, width: length, height: depth },
            });
            at += length;
        }
        free = match upright {
            true => Area { x: free.x + depth, width: (free.width - depth).max(0.0), ..free },
            false => Area { y: free.y + depth, height: (free.height - depth).max(0.0), ..free },
        };
    }
    areas
}

/// Returns the highest aspect ratio in a row along `side`, from the sum of its areas, the largest and the
/// smallest.
fn worst(sum: f64, largest: f64, smallest: f64, side: f64) -> f64 {
    let (sum, side) = (sum * sum, side * side);
    (side * largest / sum).max(sum / (side * smallest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_matches_the_paper() {
        // The paper's example: 6, 6, 4, 3, 2, 2, 1 in 6 x 4.
        let whole = Area { x: 0.0, y: 0.0, width: 6.0, height: 4.0 };
        let areas = squarified(&[6, 6, 4, 3, 2, 2, 1, 0], whole);
        let shape =
            |area: &Area| [area.x, area.y, area.width, area.height].map(|at| (at * 100.0).round() as i64);
        let shapes: Vec<[i64; 4]> = areas.iter().map(shape).collect();
        assert_eq!(
            shapes[..4],
            [[0, 0, 300, 200], [0, 200, 300, 200], [300, 0, 171, 233], [471, 0, 129, 233]]
        );
        assert_eq!(areas.len(), 7);
        let sum: f64 = areas.iter().map(|area| area.width * area.height).sum();
        assert!((sum - 24.0).abs() < 1e-9, "{areas:?}");
        assert!(
            areas.iter().all(|area| area.x + area.width < 6.0 + 1e-9 && area.y + area.height < 4.0 + 1e-9)
        );
    }

    #[test]
    fn empty_sizes_have_no_areas() {
        let whole = Area { x: 0.0, y: 0.0, width: 6.0, height: 4.0 };
        assert!(squarified(&[], whole).is_empty() && squarified(&[0, 0], whole).is_empty());
    }
}

//! Rectangles for sizes, as square as they can be: "Squarified Treemaps" by Bruls, Huizing and van Wijk, 2000. (The crate
//! `treemap` has it, too, but leaves out the last size as it adds them up, so that areas are wrong.)

/// Where something is, in the units of the drawing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// An area for each of `sizes`, which are sorted, the largest first, and in sum fill `whole`. None for sizes of 0.
pub(super) fn squarified(sizes: &[u64], whole: Area) -> Vec<Area> {
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
        // The row takes more as long as its worst rectangle becomes no worse for it.
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

/// The highest aspect ratio in a row along `side`, of its sum, its largest and its smallest area.
fn worst(sum: f64, largest: f64, smallest: f64, side: f64) -> f64 {
    let (sum, side) = (sum * sum, side * side);
    (side * largest / sum).max(sum / (side * smallest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_those_of_the_paper() {
        // Its example: 6, 6, 4, 3, 2, 2, 1 in 6 x 4.
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
    fn nothing_has_no_area() {
        let whole = Area { x: 0.0, y: 0.0, width: 6.0, height: 4.0 };
        assert!(squarified(&[], whole).is_empty() && squarified(&[0, 0], whole).is_empty());
    }
}

//! Estimates the bytes that a change moves, for one closure without a history.

use nixply_planning::Closure;
use nixply_planning::plan::{Graph, Plan};

/// Distribution of changes over packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Weighs each path by 1 / (1 + its dependents): paths with many dependents change less often.
    Structural,
    /// All paths change equally often.
    Even,
    /// Only paths with at most one dependent change.
    Leaves,
}

impl Weights {
    fn of(self, touched: usize) -> f64 {
        match self {
            Self::Structural => 1.0 / touched as f64,
            Self::Even => 1.0,
            Self::Leaves => f64::from(u8::from(touched <= 2)),
        }
    }
}

/// Returns the expected number of bytes that each plan moves when one path and all its dependents change, for
/// each of `weights`. A layer moves as a whole.
pub fn bytes_per_change(closure: &Closure, plans: &[&Plan], weights: &[Weights]) -> Vec<Vec<f64>> {
    let graph = Graph::new(closure);
    let sizes: Vec<f64> = closure.iter().map(|info| info.nar_size as f64).collect();
    let layers: Vec<(Vec<usize>, Vec<f64>)> = plans
        .iter()
        .map(|plan| {
            let mut layer_of = vec![usize::MAX; closure.len()];
            let mut bytes = vec![0.0; plan.len()];
            for (layer, paths) in plan.iter().enumerate() {
                for at in paths.iter().filter_map(|path| closure.place(&path.path)) {
                    layer_of[at] = layer;
                    bytes[layer] += sizes[at];
                }
            }
            (layer_of, bytes)
        })
        .collect();
    let mut sums = vec![vec![0.0; weights.len()]; plans.len()];
    let mut totals = vec![0.0; weights.len()];
    // For each path and layer, the last change that visited it. Nothing needs to be reset between changes.
    let mut seen = vec![usize::MAX; closure.len()];
    let mut moved: Vec<Vec<usize>> = layers.iter().map(|(_, bytes)| vec![usize::MAX; bytes.len()]).collect();
    let mut touched = Vec::new();
    for change in 0..closure.len() {
        touched.clear();
        touched.push(change);
        seen[change] = change;
        let mut next = 0;
        while let Some(at) = touched.get(next).copied() {
            next += 1;
            for referrer in graph.referrers(at) {
                if std::mem::replace(&mut seen[*referrer], change) != change {
                    touched.push(*referrer);
                }
            }
        }
        let shares: Vec<f64> = weights.iter().map(|weights| weights.of(touched.len())).collect();
        for (total, share) in totals.iter_mut().zip(&shares) {
            *total += share;
        }
        for ((sums, (layer_of, bytes)), moved) in sums.iter_mut().zip(&layers).zip(&mut moved) {
            let mut sum = 0.0;
            for layer in touched.iter().map(|at| layer_of[*at]).filter(|layer| *layer != usize::MAX) {
                if std::mem::replace(&mut moved[layer], change) != change {
                    sum += bytes[layer];
                }
            }
            for (of, share) in sums.iter_mut().zip(&shares) {
                *of += sum * share;
            }
        }
    }
    for sums in &mut sums {
        for (sum, total) in sums.iter_mut().zip(&totals) {
            *sum /= total.max(f64::MIN_POSITIVE);
        }
    }
    sums
}

//! Changes in earlier releases.

use crate::plan::graph::Graph;

/// Observed changes, by place in the closure.
#[derive(Debug, Clone)]
pub(in crate::plan) struct ChangeHistory {
    /// For each path, the observed releases in which it got another hash, as bits; the lowest bit is the last release.
    pub(in crate::plan) seen: Vec<u64>,
    /// Number of observed releases, at most 64.
    pub(in crate::plan) releases: u32,
}

impl ChangeHistory {
    /// Returns the history of `count` paths without observations.
    pub(in crate::plan) fn unknown(count: usize) -> Self {
        Self { seen: vec![0; count], releases: 0 }
    }

    /// Returns whether paths that refer to a changed path change as well, as in Nix without content addressing. The answer is yes
    /// until more than half of the observed dependents did not change.
    pub(super) fn propagates(&self, graph: &Graph) -> bool {
        let (mut of, mut missed) = (0, 0);
        for (at, seen) in self.seen.iter().enumerate() {
            for referrer in graph.referrers(at) {
                of += seen.count_ones();
                missed += (seen & !self.seen[*referrer]).count_ones();
            }
        }
        2 * missed <= of
    }

    /// Returns the number of events in all observed releases.
    pub(super) fn events(&self, graph: &Graph, event_of: &[usize], count: usize, propagates: bool) -> u32 {
        let mut seen = vec![0u64; count];
        for (at, event) in event_of.iter().enumerate() {
            let of_others = match propagates {
                true => graph.references(at).iter().fold(0, |word, below| word | self.seen[*below]),
                false => 0,
            };
            seen[*event] |= self.seen[at] & !of_others;
        }
        seen.iter().map(|word| word.count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closure::{Closure, PathInfo};
    use crate::store_path::StorePath;

    #[test]
    fn changes_propagate_unless_most_observed_dependents_stayed_the_same() {
        // Path 0 refers to path 1.
        let path =
            |number: usize| StorePath::parse(&format!("/nix/store/{}-p{number}", "a".repeat(32))).unwrap();
        let closure = Closure::new((0..2).map(|number| PathInfo {
            path: path(number),
            references: (number == 0).then(|| path(1)).into_iter().collect(),
            nar_hash: String::new(),
            nar_size: 1,
        }));
        let graph = Graph::new(&closure);
        for (seen, propagates, events) in [
            ([0, 0], true, 0),
            ([0b1111, 0b1111], true, 4),
            // One independent change, in addition to those of its reference.
            ([0b11111, 0b1111], true, 5),
            ([0b0011, 0b1111], true, 4),
            ([0b0001, 0b1111], false, 5),
        ] {
            let history = ChangeHistory { seen: seen.to_vec(), releases: 8 };
            assert_eq!(history.propagates(&graph), propagates, "{seen:?}");
            assert_eq!(history.events(&graph, &[0, 1], 2, propagates), events, "{seen:?}");
        }
    }
}

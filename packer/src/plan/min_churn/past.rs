//! What former releases tell.

use crate::plan::graph::Graph;

/// Changes that have been seen, by place in the closure.
#[derive(Debug, Clone)]
pub(in crate::plan) struct Past {
    /// In which of the releases that have been seen a path got another hash, the last one in the lowest bit.
    pub(in crate::plan) seen: Vec<u64>,
    /// How many releases have been seen, 64 at most.
    pub(in crate::plan) releases: u32,
}

impl Past {
    /// Of `count` paths of which nothing is known.
    pub(in crate::plan) fn unknown(count: usize) -> Self {
        Self { seen: vec![0; count], releases: 0 }
    }

    /// Whether what refers to a changed path changes, too: as in Nix, unless paths are named by their content. It is taken for
    /// granted until half of the dependents have been seen not to.
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

    /// How many events a release has had.
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
    fn changes_propagate_until_most_dependents_have_been_seen_not_to() {
        // 0 refers to 1.
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
            // A change of its own, beside those that come from below.
            ([0b11111, 0b1111], true, 5),
            ([0b0011, 0b1111], true, 4),
            ([0b0001, 0b1111], false, 5),
        ] {
            let past = Past { seen: seen.to_vec(), releases: 8 };
            assert_eq!(past.propagates(&graph), propagates, "{seen:?}");
            assert_eq!(past.events(&graph, &[0, 1], 2, propagates), events, "{seen:?}");
        }
    }
}

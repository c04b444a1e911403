//! Dominators: the store paths that an image contains only because of one other path.

use nixply_packer::Result;
use nixply_planning::Closure;
use nixply_planning::plan::Graph;
use petgraph::algo::dominators::simple_fast;
use petgraph::graph::{DiGraph, NodeIndex};

/// The immediate dominator of each path: the nearest other path on every chain of references from a root to it.
#[derive(Debug)]
pub(super) struct Dominators {
    /// None for roots, for paths that roots reach by chains without a common path, and for paths that no root reaches.
    nearest: Vec<Option<usize>>,
    /// All places, each after its dominators.
    order: Vec<usize>,
}

impl Dominators {
    pub(super) fn new(closure: &Closure, graph: &Graph, roots: &[usize]) -> Result<Self> {
        let mut order = graph.bottom_up(closure)?;
        order.reverse();
        // An additional node that refers to all roots.
        let node = |at: usize| NodeIndex::<u32>::new(at);
        let image = node(graph.len());
        let references = (0..graph.len())
            .flat_map(|from| graph.references(from).iter().map(move |to| (node(from), node(*to))))
            .chain(roots.iter().map(|root| (image, node(*root))));
        let mut nodes = DiGraph::<(), ()>::from_edges(references);
        while nodes.node_count() <= graph.len() {
            nodes.add_node(());
        }
        let dominators = simple_fast(&nodes, image);
        let nearest = |at| dominators.immediate_dominator(node(at)).filter(|above| *above != image);
        let nearest = (0..graph.len()).map(|at| nearest(at).map(NodeIndex::index)).collect();
        Ok(Self { nearest, order })
    }

    /// Returns the immediate dominator of `at`, if it has one.
    pub(super) fn nearest(&self, at: usize) -> Option<usize> {
        self.nearest[at]
    }

    /// Iterates over all places, each after its dominators.
    pub(super) fn top_down(&self) -> impl Iterator<Item = usize> {
        self.order.iter().copied()
    }

    /// Returns for each place the sum of `amount` over it and the places that it dominates.
    pub(super) fn sums(&self, amount: impl Fn(usize) -> u64) -> Vec<u64> {
        let mut sums: Vec<u64> = (0..self.nearest.len()).map(amount).collect();
        for at in self.order.iter().rev() {
            if let Some(above) = self.nearest[*at] {
                sums[above] += sums[*at];
            }
        }
        sums
    }

    /// Returns the places that `at` dominates, without itself, in the closure's order.
    pub(super) fn only_through(&self, at: usize) -> Vec<usize> {
        let mut below = vec![false; self.nearest.len()];
        below[at] = true;
        for place in &self.order {
            below[*place] |= self.nearest[*place].is_some_and(|above| below[above]);
        }
        (0..below.len()).filter(|place| below[*place] && *place != at).collect()
    }
}

#[cfg(test)]
mod tests {
    use nixply_planning::{PathInfo, StorePath};
    use proptest::{prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn a_path_dominates_the_paths_that_the_roots_reach_only_through_it(
            edges in proptest::collection::vec((0usize..12, 0usize..12), 0..40),
            roots in proptest::collection::vec(0usize..12, 1..4),
        ) {
            let path = |at: usize| StorePath::parse(&format!("/nix/store/{}-{at:02}", "0".repeat(32))).unwrap();
            let closure = Closure::new((0..12).map(|at| PathInfo {
                path: path(at),
                references: edges.iter().filter(|(from, to)| *from == at && *to > at).map(|(_, to)| path(*to)).collect(),
                nar_hash: String::new(),
                nar_size: 0,
            }));
            let graph = Graph::new(&closure);
            let dominators = Dominators::new(&closure, &graph, &roots).unwrap();
            let sums = dominators.sums(|_| 1);
            let all = graph.below(roots.iter().copied());
            for at in all.iter().copied() {
                // The places that the roots reach without `at`.
                let mut seen = [false; 12];
                let mut stack: Vec<usize> = roots.clone();
                while let Some(next) = stack.pop() {
                    if next != at && !std::mem::replace(&mut seen[next], true) {
                        stack.extend(graph.references(next));
                    }
                }
                let mut lost: Vec<usize> = all.iter().copied().filter(|place| !seen[*place] && *place != at).collect();
                lost.sort_unstable();
                prop_assert_eq!(sums[at], lost.len() as u64 + 1);
                prop_assert_eq!(dominators.only_through(at), lost);
            }
        }
    }
}

//! The reference graph of a closure. Nodes are positions in the closure.

use fixedbitset::FixedBitSet;

use crate::closure::Closure;
use crate::error::{Error, Result};

/// The references within a closure, without self-references and repetitions.
#[derive(Debug)]
pub struct Graph {
    references: Lists,
    referrers: Lists,
}

/// A list of positions for each position, in one allocation.
#[derive(Debug)]
struct Lists {
    starts: Vec<usize>,
    all: Vec<usize>,
}

impl Lists {
    fn of(&self, at: usize) -> &[usize] {
        &self.all[self.starts[at]..self.starts[at + 1]]
    }

    fn new(count: usize, mut pairs: Vec<(usize, usize)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        let mut starts = vec![0; count + 1];
        for (from, _) in &pairs {
            starts[from + 1] += 1;
        }
        for at in 0..count {
            starts[at + 1] += starts[at];
        }
        Self { starts, all: pairs.into_iter().map(|(_, to)| to).collect() }
    }
}

impl Graph {
    /// Builds the graph of a closure.
    pub fn new(closure: &Closure) -> Self {
        let mut pairs = Vec::new();
        for (from, info) in closure.iter().enumerate() {
            let places = info.references.iter().filter_map(|path| closure.place(path));
            pairs.extend(places.filter(|to| *to != from).map(|to| (from, to)));
        }
        let back = pairs.iter().map(|(from, to)| (*to, *from)).collect();
        let count = closure.len();
        Self { references: Lists::new(count, pairs), referrers: Lists::new(count, back) }
    }

    /// Number of positions.
    pub fn len(&self) -> usize {
        self.references.starts.len() - 1
    }

    /// Returns whether the graph is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the positions that `at` refers to.
    pub fn references(&self, at: usize) -> &[usize] {
        self.references.of(at)
    }

    /// Returns the positions that refer to `at`.
    pub fn referrers(&self, at: usize) -> &[usize] {
        self.referrers.of(at)
    }

    /// Returns `from` and everything that they refer to, directly or indirectly, in arbitrary order.
    pub fn below(&self, from: impl IntoIterator<Item = usize>) -> Vec<usize> {
        self.below_without(from, &FixedBitSet::new())
    }

    /// Like [`Graph::below`], in the graph without the positions in `gates`.
    pub(crate) fn below_without(
        &self,
        from: impl IntoIterator<Item = usize>,
        gates: &FixedBitSet,
    ) -> Vec<usize> {
        self.reached(from, gates, |at| self.references(at))
    }

    /// Returns `from` and everything that refers to them, directly or indirectly, in arbitrary order.
    pub fn above(&self, from: impl IntoIterator<Item = usize>) -> Vec<usize> {
        self.reached(from, &FixedBitSet::new(), |at| self.referrers(at))
    }

    fn reached<'g>(
        &'g self,
        from: impl IntoIterator<Item = usize>,
        gates: &FixedBitSet,
        next: impl Fn(usize) -> &'g [usize],
    ) -> Vec<usize> {
        let mut seen = gates.clone();
        seen.grow(self.len());
        let mut stack: Vec<usize> = from.into_iter().collect();
        let mut all = Vec::new();
        while let Some(at) = stack.pop() {
            if !seen.put(at) {
                all.push(at);
                stack.extend(next(at));
            }
        }
        all
    }

    /// Returns all positions, each after everything that it refers to. A reference cycle is an error.
    pub fn bottom_up(&self, closure: &Closure) -> Result<Vec<usize>> {
        let mut waiting: Vec<usize> = (0..self.len()).map(|at| self.references(at).len()).collect();
        let mut order: Vec<usize> = (0..self.len()).filter(|at| waiting[*at] == 0).collect();
        let mut done = 0;
        while let Some(at) = order.get(done).copied() {
            done += 1;
            for referrer in self.referrers(at) {
                waiting[*referrer] -= 1;
                if waiting[*referrer] == 0 {
                    order.push(*referrer);
                }
            }
        }
        match closure.iter().enumerate().find(|(at, _)| waiting[*at] > 0) {
            Some((_, stuck)) => Err(Error::Cycle(stuck.path.to_string())),
            None => Ok(order),
        }
    }
}

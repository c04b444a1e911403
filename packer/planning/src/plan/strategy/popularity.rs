//! The popularity order, exactly as in nix2container's `closure/popularity.go`.

use std::collections::{HashMap, VecDeque};

use crate::closure::Closure;
use crate::error::{Error, Result};
use crate::store_path::StorePath;

/// Returns all paths of the closure, most popular first. A path's score is 1 plus the scores of all other paths that refer to
/// it. Of equal scores, the path that appears later comes first; a path appears where the closure first names it, as an entry
/// or as a reference. Scores wrap at 64 bits, as in nix2container.
pub fn by_popularity(closure: &Closure) -> Result<Vec<StorePath>> {
    let mut ids: HashMap<&StorePath, usize> = HashMap::with_capacity(closure.len());
    let mut paths: Vec<&StorePath> = Vec::with_capacity(closure.len());
    let mut references: Vec<Vec<usize>> = Vec::with_capacity(closure.len());
    let mut referrers: Vec<usize> = Vec::with_capacity(closure.len());
    for info in closure.iter() {
        let mut id = |path| {
            *ids.entry(path).or_insert_with(|| {
                paths.push(path);
                references.push(Vec::new());
                referrers.push(0);
                paths.len() - 1
            })
        };
        let from = id(&info.path);
        let mut to: Vec<usize> = info.references.iter().map(&mut id).filter(|to| *to != from).collect();
        // A repeated edge counts once.
        to.sort_unstable();
        to.dedup();
        for to in &to {
            referrers[*to] += 1;
        }
        references[from] = to;
    }

    let mut scores = vec![1i64; paths.len()];
    let mut ready: VecDeque<usize> = (0..paths.len()).filter(|id| referrers[*id] == 0).collect();
    let mut scored = 0;
    while let Some(from) = ready.pop_front() {
        scored += 1;
        for to in &references[from] {
            scores[*to] = scores[*to].wrapping_add(scores[from]);
            referrers[*to] -= 1;
            if referrers[*to] == 0 {
                ready.push_back(*to);
            }
        }
    }
    if scored < paths.len() {
        let stuck = (0..paths.len())
            .find(|id| referrers[*id] > 0)
            .expect("a path without a score waits for a referrer");
        return Err(Error::Cycle(paths[stuck].to_string()));
    }

    let mut order: Vec<usize> = (0..paths.len()).collect();
    order.sort_unstable_by_key(|id| std::cmp::Reverse((scores[*id], *id)));
    Ok(order.into_iter().map(|id| paths[id].clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::closure::PathInfo;

    /// nix2container's TestPopularities.
    #[test]
    fn order_equals_that_of_nix2container() {
        let closure = Closure::named(&[
            ("A", &["A", "B", "G"]),
            ("B", &["B", "C", "E"]),
            ("C", &["C", "D", "E"]),
            ("D", &["D", "F"]),
            ("E", &["E", "F"]),
            ("F", &["F"]),
            ("G", &["G"]),
        ]);
        let order = by_popularity(&closure).unwrap();
        assert_eq!(
            order.iter().map(StorePath::name).collect::<Vec<_>>(),
            ["F", "E", "D", "C", "G", "B", "A"]
        );
    }

    #[test]
    fn a_cycle_is_an_error() {
        let error = by_popularity(&Closure::named(&[("a", &["b"]), ("b", &["a"])])).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the closure has a reference cycle through {}", StorePath::named("a"))
        );
    }

    #[test]
    fn scores_wrap_like_go_ints() {
        // A ladder of 70 rungs. The score doubles on each rung: beyond 2^63.
        let path = |rung: usize, side: usize| StorePath::named(&format!("{rung:02}{side}"));
        let infos = (0..70).flat_map(|rung| {
            (0..2).map(move |side| PathInfo {
                path: path(rung, side),
                references: if rung < 69 { vec![path(rung + 1, 0), path(rung + 1, 1)] } else { vec![] },
                nar_hash: String::new(),
                nar_size: 0,
            })
        });
        let order = by_popularity(&Closure::new(infos)).unwrap();
        assert_eq!(order.len(), 140);
        assert_ne!(order[0].name(), "691");
    }
}

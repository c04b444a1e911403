//! Units: the paths that are placed together.

use std::collections::BTreeMap;

use super::coarsen::MAX_COMPARED;
use super::cost::{Content, HORIZON};
use super::problem::{Former, Problem};

/// Returns the units: usually one path each. If there are too many paths, those with the fewest expected bytes are bundled. A
/// bundle has paths of the same images and the same layers of the former plan, with similar probabilities of change. So each
/// former layer consists of whole units.
pub(super) fn units(problem: &Problem<'_>) -> Vec<Vec<usize>> {
    let Problem { costs, users, former, .. } = problem;
    let count = costs.len();
    if count <= MAX_COMPARED {
        return (0..count).map(|path| vec![path]).collect();
    }
    let contents: Vec<Content> = (0..count).map(|path| costs.content(&[path])).collect();
    let expected = |path: usize| contents[path].bytes * (1.0 + HORIZON * contents[path].changes);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| expected(*b).total_cmp(&expected(*a)).then(a.cmp(b)));
    let rest = order.split_off(MAX_COMPARED / 2);
    let mut units: Vec<Vec<usize>> = order.into_iter().map(|path| vec![path]).collect();
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (layer, Former { paths, .. }) in former.iter().enumerate() {
        paths.iter().for_each(|path| layers[*path].push(layer));
    }
    let mut alike: BTreeMap<(Vec<usize>, Vec<usize>), Vec<usize>> = BTreeMap::new();
    for path in &rest {
        let key = (users[*path].ones().collect(), std::mem::take(&mut layers[*path]));
        alike.entry(key).or_default().push(*path);
    }
    // Each of these sets gets a share of the bundles, at least one.
    let bundles = MAX_COMPARED - MAX_COMPARED / 2;
    for mut paths in alike.into_values() {
        paths.sort_by(|a, b| contents[*a].changes.total_cmp(&contents[*b].changes).then(a.cmp(b)));
        let bundles = (bundles * paths.len()).div_ceil(rest.len()).min(paths.len());
        for at in 0..bundles {
            let mut unit = paths[at * paths.len() / bundles..(at + 1) * paths.len() / bundles].to_vec();
            unit.sort_unstable();
            units.push(unit);
        }
    }
    units.sort_unstable();
    units
}

//! The reports of `nixply explain`.

use std::collections::HashMap;

use nixply_planning::StorePath;
use nixply_reports::explain::{
    DominatorSummary, Labels, LayerMates, LayerSummary, Overview, PathReport, SizedPath,
};

use crate::report::{Cell, Report, Table};
use crate::terminal::{count, human};

/// Maximum number of paths in one line.
const MAX_PATHS_IN_LINE: usize = 3;

/// Maximum number of layers in a list that is not folded.
const MAX_UNFOLDED_LAYERS: usize = 20;

pub(super) fn of_image(image: &str, overview: &Overview, labels: &Labels, most: usize) -> Report {
    let mut report = Report::default();
    let layers = count(overview.layers.len(), "layer");
    let size = match overview.size {
        Some(size) => format!("{}{}", human(size), encoding(overview)),
        None => format!("{} unpacked", human(overview.nar_size)),
    };
    report.headline(format!("{image}: {size} in {layers}, {}", count(overview.paths, "store path")));

    let mut table = Table::new("Layers, from the bottom up", &["#layer", "#size", "#paths", "largest paths"]);
    if overview.layers.len() > MAX_UNFOLDED_LAYERS {
        table = table.folded();
    }
    for layer in &overview.layers {
        table.row([
            layer.layer.to_string().into(),
            human(layer.blob.size.unwrap_or(layer.nar_size)).into(),
            layer.paths.to_string().into(),
            largest(layer, labels).into(),
        ]);
    }
    report.table(table);

    let title = "Largest contributors: each path with everything that is in the image only because of it";
    let columns = ["#brings", "#share", "#paths", "#itself", "path", "named by"];
    let mut table = Table::new(title, &columns).at_most(most);
    let mut depths: HashMap<&StorePath, usize> = HashMap::new();
    for path in &overview.brings {
        let depth =
            path.through.as_ref().and_then(|through| depths.get(through)).map_or(0, |depth| depth + 1);
        depths.insert(&path.path, depth);
        table.row([
            human(path.only_size).into(),
            share(path.only_size, overview.nar_size).into(),
            path.only_paths.to_string().into(),
            human(path.nar_size).into(),
            Cell::Name(labels.of(&path.path), depth),
            path.named_by.join(", ").into(),
        ]);
    }
    report.table(table);

    let mut table =
        Table::new("Largest paths", &["#size", "#share", "#layer", "path", "because of"]).at_most(most);
    for path in &overview.largest {
        table.row([
            human(path.nar_size).into(),
            share(path.nar_size, overview.nar_size).into(),
            numbers(&path.layers).into(),
            Cell::Name(labels.of(&path.path), 0),
            through(path, labels).into(),
        ]);
    }
    report.table(table);
    report
}

pub(super) fn of_path(found: &PathReport, layers: usize, labels: &Labels, most: usize) -> Report {
    let mut report = Report::default();
    report.headline(found.path.to_string());
    let brings = match found.only_through.len() {
        0 if found.layers.is_empty() => "nothing".to_owned(),
        0 => "only itself".to_owned(),
        more => format!(
            "{} including {} in the image only because of it",
            human(found.only_size),
            count(more, "other path")
        ),
    };
    let needs = match found.closure_paths {
        1 => "no other path".to_owned(),
        paths => format!("{}, {} in total", count(paths - 1, "other path"), human(found.closure_nar_size)),
    };
    let mut facts = vec![
        ("size", human(found.nar_size)),
        ("needs", needs),
        (
            "needed by",
            match found.dependents {
                0 => "no other path".to_owned(),
                all if all == found.referrers.len() => format!("{}, directly", count(all, "other path")),
                all => format!("{}, {} directly", count(all, "other path"), found.referrers.len()),
            },
        ),
        ("brings", brings),
    ];
    if !found.named_by.is_empty() {
        facts.insert(1, ("named by", found.named_by.join(", ")));
    }
    if found.layers.is_empty() {
        facts.push((
            "layer",
            "none: it is excluded from the image, although other paths refer to it".to_owned(),
        ));
    }
    for mates in &found.layers {
        facts.push(("layer", layer(mates, layers)));
        facts.push(("changes", changes(mates)));
    }
    report.facts(facts);

    let mut table = Table::new("Why it is in the image", &["", "path"]);
    for (at, path) in found.chain.iter().enumerate() {
        let what = match at {
            0 => format!("{} names", found.chain_named_by.join(", ")),
            _ => "which refers to".to_owned(),
        };
        table.row([what.into(), Cell::Name(labels.of(path), 0)]);
    }
    report.table(table);

    let mut table = Table::new("Referrers", &["path"]).at_most(most);
    found.referrers.iter().for_each(|path| table.row([Cell::Name(labels.of(path), 0)]));
    report.table(table);

    let mut table =
        Table::new("Other paths in the image only because of it", &["#size", "path"]).at_most(most);
    for path in &found.only_through {
        table.row([human(path.nar_size).into(), Cell::Name(labels.of(&path.path), 0)]);
    }
    report.table(table);

    for mates in &found.layers {
        let title = format!("Other paths in layer {}", mates.layer);
        let mut table = Table::new(title, &["#size", "path", "relation"]).at_most(most);
        let lists = [
            (&mates.change_with_it, "depends on it"),
            (&mates.change_it, "needed by it"),
            (&mates.unrelated, "unrelated"),
        ];
        for (paths, what) in lists {
            for path in paths {
                table.row([human(path.nar_size).into(), Cell::Name(labels.of(&path.path), 0), what.into()]);
            }
        }
        report.table(table);
    }
    report
}

/// Describes the layer that contains the path.
fn layer(mates: &LayerMates, layers: usize) -> String {
    let size = match (mates.blob.size, mates.blob.encoding) {
        (Some(size), Some(encoding)) => format!("{} as {encoding}", human(size)),
        _ => format!("{} unpacked", human(mates.nar_size)),
    };
    let with = match mates.change_with_it.len() + mates.change_it.len() + mates.unrelated.len() {
        0 => "alone".to_owned(),
        others => format!("with {}", count(others, "other path")),
    };
    format!("{} of {layers}, {size}, {with}", mates.layer)
}

/// Describes when the path changes, and when its layer does.
fn changes(mates: &LayerMates) -> String {
    let (own, all) = (mates.path_changes_with, mates.layer_changes_with);
    let own_changes = match own {
        1 => "only by itself".to_owned(),
        2 => "when the path that it needs changes".to_owned(),
        own => format!("when any of the {} that it needs changes", count(own - 1, "path")),
    };
    match all - own {
        0 => format!("{own_changes}; its layer changes only with it"),
        1 => format!("{own_changes}; its layer also changes with 1 other path"),
        more => format!("{own_changes}; its layer also changes with any of {more} other paths"),
    }
}

fn encoding(overview: &Overview) -> String {
    let mut encodings: Vec<&str> = overview.layers.iter().filter_map(|layer| layer.blob.encoding).collect();
    encodings.sort_unstable();
    encodings.dedup();
    if encodings.is_empty() { String::new() } else { format!(" as {}", encodings.join(" and ")) }
}

fn largest(layer: &LayerSummary, labels: &Labels) -> String {
    if layer.paths == 0 {
        let made: Vec<&str> = layer.created_by.split_whitespace().collect();
        return if made.is_empty() {
            "no store paths".into()
        } else {
            format!("no store paths: {}", made.join(" "))
        };
    }
    let name = |path: &SizedPath| match layer.paths {
        1 => labels.of(&path.path),
        _ => format!("{} ({})", labels.of(&path.path), human(path.nar_size)),
    };
    let mut names: Vec<String> = layer.largest.iter().take(MAX_PATHS_IN_LINE).map(name).collect();
    if layer.paths > names.len() {
        names.push(format!("{} more", layer.paths - names.len()));
    }
    names.join(", ")
}

fn through(path: &DominatorSummary, labels: &Labels) -> String {
    match (&path.through, &path.named_by[..]) {
        (Some(through), _) => labels.of(through),
        (None, []) => "several paths".to_owned(),
        (None, named) => named.join(", "),
    }
}

fn numbers(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => String::new(),
        whole => format!("{:.0} %", part as f64 * 100.0 / whole as f64),
    }
}

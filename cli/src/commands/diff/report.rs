//! The report of `nixply diff`.

use std::collections::BTreeMap;

use nixply_planning::StorePath;
use nixply_reports::diff::{
    Cause, Cost, Diff, IndexDiff, LayerChange, LayerState, MovedPaths, PathChange, PlatformDiff, Side,
    Unpacking, Version,
};
use nixply_reports::explain::Labels;

use crate::report::{Cell, Report, Table};
use crate::terminal::{count, human};

/// Maximum number of paths in one line.
const MAX_PATHS_IN_LINE: usize = 3;

/// Maximum number of new layers in a list that is not folded.
const MAX_UNFOLDED_LAYERS: usize = 10;

pub(super) fn of(diff: &Diff, names: &[String; 2], most: usize) -> Report {
    let mut report = Report::default();
    report.headline(headline(diff));
    describe(&mut report, diff, names, most);
    report
}

/// Returns the report of two image indexes: the sum, then each platform.
pub(super) fn of_index(diff: &IndexDiff, names: &[String; 2], most: usize) -> Report {
    let mut report = Report::default();
    report.headline(index_headline(diff));
    let mut facts = vec![("old", names[0].clone()), ("new", names[1].clone())];
    for (name, platforms) in
        [("added", &diff.added), ("removed", &diff.removed), ("annotations", &diff.annotations)]
    {
        if !platforms.is_empty() {
            facts.push((name, platforms.join(", ")));
        }
    }
    report.facts(facts);
    for PlatformDiff { platform, diff } in &diff.images {
        report.headline(format!("{platform}: {}", headline(diff)));
        if !diff.is_empty() {
            describe(&mut report, diff, names, most);
        }
    }
    report
}

fn index_headline(diff: &IndexDiff) -> String {
    let platforms = count(diff.images.len() + diff.added.len(), "platform");
    if diff.is_empty() {
        return format!("The same index: {platforms}");
    }
    let changed = diff.images.iter().filter(|image| !image.diff.is_empty()).count();
    // Images share layers.
    let layers = diff.images.iter().flat_map(|image| &image.diff.layers);
    let moved = layers.filter(|layer| layer.state != LayerState::Kept);
    let moved: BTreeMap<_, _> = moved.map(|layer| (layer.digest, layer.size.unwrap_or_default())).collect();
    let size: u64 = moved.values().sum();
    let added = if diff.added.is_empty() { "" } else { " for the platforms of both indexes" };
    format!(
        "{} to push{added}; {changed} of {platforms} changed, {} added, {} removed",
        human(size),
        diff.added.len(),
        diff.removed.len()
    )
}

/// Adds the facts and the tables.
fn describe(report: &mut Report, diff: &Diff, names: &[String; 2], most: usize) {
    let labels = labels(diff);
    let mut facts = vec![
        ("old", format!("{}: {}", names[0], side(&diff.old))),
        ("new", format!("{}: {}", names[1], side(&diff.new))),
    ];
    if !diff.fields.is_empty() {
        facts.push(("settings", diff.fields.join(", ")));
    }
    if diff.old.paths + diff.new.paths > 0 {
        facts.push(("paths", paths(diff)));
    }
    facts.push(("layers", layers(diff)));
    if diff.push.layers > 0 {
        facts.push(("push", format!("{}, to a registry with the old image", cost(&diff.push))));
        facts.push(("pull", pull(diff)));
    }
    if let Some(unpacking) = &diff.unpack {
        facts.push(("unpack", unpack(unpacking, diff.new.layers)));
    } else if diff.push.layers > 0 {
        facts.push(("unpack", "nothing: the files are the same".to_owned()));
    }
    if !diff.unchanged_sent.is_empty() {
        facts.push(("unchanged", unchanged(diff)));
    }
    if diff.unknown_sizes > 0 {
        let what = format!(
            "the sizes of {}; pass --old-closure and --new-closure",
            count(diff.unknown_sizes, "path")
        );
        facts.push(("unknown", what));
    }
    report.facts(facts);

    let changes = &diff.paths;
    let mut table =
        Table::new("Changed paths", &["", "path", "old", "new", "#size", "#change", "#layer", "cause"])
            .at_most(most);
    let lists = [
        ("updated", &changes.updated),
        ("added", &changes.added),
        ("removed", &changes.removed),
        ("other location or perms", &changes.other_rules),
    ];
    for (what, list) in lists {
        for change in list {
            table.row(row(what, change));
        }
    }
    report.table(table);

    let columns = ["path", "#size", "#change", "#layer", "cause"];
    let title = format!("Rebuilt: the same version with another hash ({})", changes.rebuilt.len());
    let mut table = Table::new(title, &columns).at_most(most).folded();
    for change in &changes.rebuilt {
        let [_, name, _, _, size, delta, layer, cause] = row("", change);
        table.row([name, size, delta, layer, cause]);
    }
    report.table(table);

    let mut table =
        Table::new("New layers, the largest first", &["#layer", "#size", "#was", "why"]).at_most(most);
    if diff.push.layers > MAX_UNFOLDED_LAYERS {
        table = table.folded();
    }
    let new = diff.layers.iter().filter(|layer| layer.state != LayerState::Kept);
    let mut new: Vec<&LayerChange> = new.collect();
    new.sort_by_key(|layer| std::cmp::Reverse(layer.size));
    for layer in new {
        table.row([
            layer.layer.to_string().into(),
            layer.size.map_or("?".to_owned(), human).into(),
            layer.was.map_or(String::new(), |was| was.to_string()).into(),
            why(layer, &labels).into(),
        ]);
    }
    report.table(table);
}

/// Returns labels for the paths of both images.
fn labels(diff: &Diff) -> Labels {
    let changes = &diff.paths;
    let lists = [&changes.updated, &changes.rebuilt, &changes.added, &changes.removed, &changes.other_rules];
    let versions = lists.into_iter().flatten().map(|change| change.new.as_ref().or(change.old.as_ref()));
    Labels::new(versions.flatten().map(|version| &version.path))
}

fn headline(diff: &Diff) -> String {
    if diff.is_empty() {
        let of_others = if changes(diff).is_some() { ", byte for byte, from other store paths" } else { "" };
        return format!("The same image: {}{of_others}", count(diff.new.layers, "layer"));
    }
    let moved = match diff.push.layers {
        0 => "No layer to push".to_owned(),
        layers => format!("{} to push: {layers} of {}", bytes(&diff.push), count(diff.new.layers, "layer")),
    };
    match changes(diff) {
        Some(changes) => format!("{moved}; {changes}"),
        None if diff.old.paths + diff.new.paths == 0 => moved,
        None => format!("{moved}; no store path has changed"),
    }
}

fn bytes(cost: &Cost) -> String {
    let unknown = if cost.unknown_sizes > 0 { " and more" } else { "" };
    let plain = if cost.compressed { "" } else { " uncompressed" };
    format!("{}{unknown}{plain}", human(cost.size))
}

fn cost(cost: &Cost) -> String {
    let unknown = match cost.unknown_sizes {
        0 => String::new(),
        layers => format!(" and {} of unknown size", count(layers, "layer")),
    };
    let state = match cost.compressed {
        true => "compressed",
        false => "uncompressed, less if compressed in transit",
    };
    format!("{}{unknown} ({state}) in {}", human(cost.size), count(cost.layers, "layer"))
}

fn side(side: &Side) -> String {
    let size = side.size.map_or(String::new(), |size| format!(", {}", human(size)));
    if side.paths == 0 {
        return format!("{}{size}", count(side.layers, "layer"));
    }
    let unpacked = side.nar_size.map_or(String::new(), |size| format!(", {} unpacked", human(size)));
    format!("{}{size}; {}{unpacked}", count(side.layers, "layer"), count(side.paths, "path"))
}

fn changes(diff: &Diff) -> Option<String> {
    let paths = &diff.paths;
    let lists = [
        (paths.updated.len(), "updated"),
        (paths.rebuilt.len(), "rebuilt"),
        (paths.added.len(), "added"),
        (paths.removed.len(), "removed"),
        (paths.other_rules.len(), "with other location or perms"),
    ];
    let counts = lists.iter().filter(|(number, _)| *number > 0);
    let counts: Vec<String> = counts.map(|(number, what)| format!("{number} {what}")).collect();
    (!counts.is_empty()).then(|| format!("paths: {}", counts.join(", ")))
}

fn paths(diff: &Diff) -> String {
    let changed =
        changes(diff).map_or(String::new(), |text| format!("{}, ", text.trim_start_matches("paths: ")));
    let rebuilt = &diff.paths.rebuilt;
    let caused = |cause| rebuilt.iter().filter(|change| change.cause == Some(cause)).count();
    let why = match (caused(Cause::References), caused(Cause::Itself)) {
        (0, 0) => String::new(),
        (references, 0) if references == rebuilt.len() => "; all rebuilt paths refer to changed paths".into(),
        (0, itself) if itself == rebuilt.len() => "; no rebuilt path refers to a changed path".into(),
        (references, itself) => {
            format!("; {references} rebuilt paths refer to changed paths, {itself} do not")
        }
    };
    format!("{changed}{} unchanged{why}", diff.paths.unchanged)
}

fn layers(diff: &Diff) -> String {
    let number = |state| diff.layers.iter().filter(|layer| layer.state == state).count();
    let mut parts =
        vec![format!("{} kept", number(LayerState::Kept)), format!("{} new", number(LayerState::New))];
    match number(LayerState::Recompressed) {
        0 => {}
        layers => parts.push(format!("{layers} with the same files in a different blob")),
    }
    let gone: Vec<String> = diff.gone.iter().map(|layer| layer.layer.to_string()).collect();
    if !gone.is_empty() {
        let size: u64 = diff.gone.iter().filter_map(|layer| layer.size).sum();
        let which =
            if gone.len() > MAX_UNFOLDED_LAYERS { String::new() } else { format!(": {}", gone.join(", ")) };
        parts.push(format!("{} old removed ({}{which})", gone.len(), human(size)));
    }
    parts.join(", ")
}

fn pull(diff: &Diff) -> String {
    let (blob, chain) = (&diff.pull.by_blob, &diff.pull.by_chain);
    if blob == chain {
        return format!("{}, by clients with the old image", human(blob.size));
    }
    format!(
        "{}, by clients with the old image; {} in {} by Docker with its classic image store",
        human(blob.size),
        human(chain.size),
        count(chain.layers, "layer")
    )
}

fn unpack(unpacking: &Unpacking, layers: usize) -> String {
    let size = unpacking.size.map_or(String::new(), |size| format!("{}: ", human(size)));
    let which = match unpacking.from_layer {
        1 => format!("all {layers} layers"),
        from if from == layers => format!("layer {from}, the top one"),
        from => format!("layers {from} to {layers}"),
    };
    format!("{size}{which} (engines also unpack all layers above a new one)")
}

fn unchanged(diff: &Diff) -> String {
    let MovedPaths { paths, nar_size, .. } = &diff.unchanged_sent;
    let replanned: Vec<&LayerChange> =
        diff.layers.iter().filter(|layer| has_only_another_plan(layer)).collect();
    let replanned = match replanned.len() {
        0 => String::new(),
        layers => {
            let size: u64 = replanned.iter().filter_map(|layer| layer.size).sum();
            format!("; {} ({}) new only because of another plan", count(layers, "layer"), human(size))
        }
    };
    let paths = format!("{} in new layers", count(*paths, "unchanged path"));
    match nar_size.zip(diff.sent_nar_size) {
        Some((part, whole)) if whole > 0 => {
            let share = match part as f64 * 100.0 / whole as f64 {
                share if share >= 99.5 && part < whole => "more than 99 %".to_owned(),
                share => format!("{share:.0} %"),
            };
            format!("{paths}: {} unpacked, {share} of these layers{replanned}", human(part))
        }
        _ => format!("{paths}{replanned}"),
    }
}

fn row(what: &'static str, change: &PathChange) -> [Cell; 8] {
    let version = |version: &Option<Version>| match version {
        Some(Version { version, .. }) if version.is_empty() => "-".to_owned(),
        Some(Version { version, .. }) => version.clone(),
        None => String::new(),
    };
    let size = |version: &Option<Version>| version.as_ref().and_then(|version| version.nar_size);
    let (before, after) = (size(&change.old), size(&change.new));
    let delta = match (&change.old, &change.new) {
        (Some(_), Some(_)) => before.zip(after).map(|(before, after)| signed(before, after)),
        (None, _) => after.map(|after| signed(0, after)),
        (_, None) => before.map(|before| signed(before, 0)),
    };
    let shown = change.new.as_ref().or(change.old.as_ref());
    let numbers =
        |version: &Version| version.layers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let layer = match (&change.new, &change.old) {
        (Some(version), _) => numbers(version),
        (None, Some(version)) => format!("was {}", numbers(version)),
        (None, None) => String::new(),
    };
    let cause = match change.cause {
        Some(Cause::Itself) => "itself",
        Some(Cause::References) => "its references",
        None => "",
    };
    [
        what.into(),
        Cell::Name(change.name.clone(), 0),
        version(&change.old).into(),
        version(&change.new).into(),
        shown.and_then(|version| version.nar_size).map_or("?".to_owned(), human).into(),
        delta.unwrap_or_default().into(),
        layer.into(),
        cause.into(),
    ]
}

fn signed(before: u64, after: u64) -> String {
    match after.cmp(&before) {
        std::cmp::Ordering::Less => format!("-{}", human(before - after)),
        std::cmp::Ordering::Equal => String::new(),
        std::cmp::Ordering::Greater => format!("+{}", human(after - before)),
    }
}

/// Whether a layer is new only because its unchanged paths are grouped differently.
fn has_only_another_plan(layer: &LayerChange) -> bool {
    let is_new = layer.state == LayerState::New && layer.paths > 0;
    is_new && layer.changed.is_empty() && layer.added.is_empty() && layer.removed.is_empty()
}

/// Describes why the old image does not have a layer.
fn why(layer: &LayerChange, labels: &Labels) -> String {
    if layer.state == LayerState::Recompressed {
        return "same files, different blob: another codec, level or codec version".to_owned();
    }
    if layer.paths == 0 {
        return "its store paths are not known: the layer of a base image, or of an image in a registry"
            .to_owned();
    }
    let mut parts = Vec::new();
    let names = |paths: &[StorePath]| {
        let mut names: Vec<String> =
            paths.iter().take(MAX_PATHS_IN_LINE).map(|path| labels.of(path)).collect();
        if paths.len() > MAX_PATHS_IN_LINE {
            names.push(format!("{} more", paths.len() - MAX_PATHS_IN_LINE));
        }
        names.join(", ")
    };
    if !layer.changed.is_empty() {
        parts.push(format!("changed: {}", names(&layer.changed)));
    }
    if !layer.added.is_empty() {
        parts.push(format!("added: {}", names(&layer.added)));
    }
    if !layer.removed.is_empty() {
        parts.push(format!("removed: {}", names(&layer.removed)));
    }
    if !layer.came.is_empty() {
        let from: Vec<String> =
            layer.came.iter().filter_map(|came| came.from).map(|from| from.to_string()).collect();
        let all = MovedPaths {
            from: None,
            paths: layer.came.iter().map(|came| came.paths).sum(),
            nar_size: layer.came.iter().map(|came| came.nar_size).sum(),
        };
        let layers = if from.len() == 1 { "layer" } else { "layers" };
        parts.push(format!("{} moved here from {layers} {}", moved(&all), from.join(", ")));
    }
    if !layer.went.is_empty() {
        parts.push(format!("{} moved to other layers", count(layer.went.len(), "path")));
    }
    match (has_only_another_plan(layer), parts.is_empty()) {
        (true, true) => {
            return "same store paths, different bytes: other rules or another version of nixply".to_owned();
        }
        (true, false) => parts[0] = format!("another plan: {}", parts[0]),
        (false, _) => {}
    }
    if !layer.stayed.is_empty() {
        parts.push(format!("{} stayed here", moved(&layer.stayed)));
    }
    parts.join("; ")
}

fn moved(paths: &MovedPaths) -> String {
    let size = paths.nar_size.map_or(String::new(), |size| format!(" ({})", human(size)));
    format!("{}{size}", count(paths.paths, "unchanged path"))
}

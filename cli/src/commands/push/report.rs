//! The results of `nixply push`: for people, as JSON, and as Markdown.

use std::collections::BTreeMap;
use std::path::PathBuf;

use nixply_oci::Digest;
use nixply_registry::client::Pushed;
use serde_json::json;

use crate::report::{Report, Table};
use crate::terminal::{count, human};

/// The result of pushing an image to a repository.
pub(super) struct Outcome {
    pub(super) image: PathBuf,
    pub(super) pushed: Pushed,
}

impl Outcome {
    /// Returns a line for each tag.
    pub(super) fn lines(&self) -> String {
        let Pushed { tags, digest, .. } = &self.pushed;
        tags.iter().map(|(reference, _)| format!("{reference}@{digest}\n")).collect()
    }
}

/// Returns the result as one line of JSON.
pub(super) fn json(outcome: &Outcome, dry_run: bool) -> String {
    let Outcome { image, pushed } = outcome;
    let blobs = |blobs: &BTreeMap<Digest, u64>| {
        let all = blobs.iter().map(|(digest, size)| json!({"digest": digest, "size": size}));
        all.collect::<Vec<_>>()
    };
    let tags = pushed
        .tags
        .iter()
        .map(|(reference, unchanged)| json!({"reference": reference.to_string(), "unchanged": unchanged}));
    let value = json!({
        "image": image,
        "digest": pushed.digest,
        "tags": tags.collect::<Vec<_>>(),
        "dryRun": dry_run,
        "packedLayers": pushed.packed,
        "sent": blobs(&pushed.sent),
        "mounted": blobs(&pushed.mounted),
        "alreadyThere": blobs(&pushed.there),
        "sentBytes": pushed.bytes,
        "requests": pushed.requests,
    });
    format!("{value}\n")
}

/// Numbers of all results.
#[derive(Default)]
struct Total {
    unchanged: usize,
    packed: u64,
    sent: usize,
    bytes: u64,
    mounted: usize,
    there: usize,
    requests: u64,
}

impl Total {
    fn of(outcomes: &[Outcome], dry_run: bool) -> Self {
        let mut total = Self::default();
        for Outcome { pushed, .. } in outcomes {
            total.unchanged += usize::from(pushed.is_unchanged());
            total.packed += pushed.packed;
            total.sent += pushed.sent.len();
            total.bytes += if dry_run { pushed.sent.values().sum() } else { pushed.bytes };
            total.mounted += pushed.mounted.len();
            total.there += pushed.there.len();
            total.requests += pushed.requests;
        }
        total
    }
}

/// Returns the summary of all results in one line.
pub(super) fn summary(outcomes: &[Outcome], dry_run: bool) -> String {
    let total = Total::of(outcomes, dry_run);
    let requests = many(total.requests, "request");
    if total.unchanged == outcomes.len() {
        let what = if outcomes.len() == 1 { "this image" } else { "these images" };
        return format!("the registry has {what} already; {requests}");
    }
    let mut parts = Vec::new();
    if total.packed > 0 {
        parts.push(format!("packed {}", many(total.packed, "layer")));
    }
    let sent = if dry_run { "would send" } else { "sent" };
    parts.push(format!("{sent} {} ({})", count(total.sent, "blob"), human(total.bytes)));
    if total.mounted > 0 {
        parts.push(format!("{} {}", if dry_run { "would mount" } else { "mounted" }, total.mounted));
    }
    parts.push(format!("{} already there", total.there));
    format!("{}; {requests}", parts.join(", "))
}

fn many(number: u64, what: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), what)
}

/// Returns the results as a Markdown section.
pub(super) fn markdown(outcomes: &[Outcome], dry_run: bool) -> String {
    let mut report = Report::default();
    report.headline(format!("nixply push: {}", summary(outcomes, dry_run)));
    let columns = ["image", "digest", "#sent", "#bytes", "#mounted", "#already there", "#requests"];
    let mut table = Table::new("Pushed images", &columns);
    for Outcome { pushed, .. } in outcomes {
        for (reference, unchanged) in &pushed.tags {
            let digest = pushed.digest.to_string();
            let bytes: u64 = pushed.sent.values().sum();
            let sent = if *unchanged { "unchanged".into() } else { pushed.sent.len().to_string() };
            let cells = [
                reference.to_string(),
                digest,
                sent,
                human(bytes),
                pushed.mounted.len().to_string(),
                pushed.there.len().to_string(),
                pushed.requests.to_string(),
            ];
            table.row(cells.map(Into::into));
        }
    }
    report.table(table);
    report.markdown()
}

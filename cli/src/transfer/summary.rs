//! Summary of a transfer: one line per layer, and one for the image.

use std::fmt::Write;

use nixply_packer::{Codec, Layer};

use crate::terminal::{count, human};

/// Maximum number of layers that get a line each. In images with more layers, the layers that the client had already share a line.
const MAX_LISTED_LAYERS: usize = 20;

/// Maximum length of a layer's history entry.
const MAX_HISTORY_CHARACTERS: usize = 50;

/// A client's requests for a layer.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// Size of the requested blob.
    pub(super) size: u64,
    pub(super) sent: u64,
    /// Whether the whole blob was sent.
    pub(super) whole: bool,
}

impl Seen {
    fn state(self) -> &'static str {
        match self {
            Self { whole: true, .. } => "sent",
            Self { sent: 0, .. } => "already there",
            _ => "sent in part",
        }
    }
}

/// Returns the table of the layers.
pub(super) fn table(layers: &[Layer], seen: &[Seen]) -> String {
    let mut out = String::new();
    let mut row = |layer: &str, size: &str, sent: &str, state: &str, what: &str| {
        let line = format!("{layer:>5}  {size:>13}  {sent:>9}  {state:<13}  {what}");
        out.push_str(line.trim_end());
        out.push('\n');
    };
    row("layer", "size", "sent", "", "");
    let number = layers.len();
    let layers = || layers.iter().zip(seen.iter().copied()).enumerate();
    let there = |seen: Seen| seen.state() == Seen::default().state();
    let many = number > MAX_LISTED_LAYERS;
    for (at, (layer, seen)) in layers().filter(|(_, (_, seen))| !many || !there(*seen)) {
        let sent = if seen.sent == 0 { String::new() } else { human(seen.sent) };
        row(&(at + 1).to_string(), &size(layer, seen), &sent, seen.state(), &what(layer));
    }
    let (mut were_there, mut bytes) = (0, 0);
    for (_, (layer, _)) in layers().filter(|(_, (_, seen))| there(*seen)) {
        (were_there, bytes) = (were_there + 1, bytes + layer.size);
    }
    if many && were_there > 0 {
        row("...", &human(bytes), "", Seen::default().state(), &count(were_there, "layer"));
    }
    let all: u64 = layers().map(|(_, (layer, seen))| known_size(layer, seen)).sum();
    let _ = write!(out, "{}, {}; ", count(number, "layer"), human(all));
    let whole = seen.iter().filter(|seen| seen.whole).count();
    let sent: u64 = seen.iter().map(|seen| seen.sent).sum();
    let _ = match sent {
        0 => write!(out, "none sent"),
        _ => write!(out, "{whole} sent ({})", human(sent)),
    };
    let part = seen.len() - whole - were_there;
    if part > 0 {
        let _ = write!(out, ", {part} in part");
    }
    if were_there > 0 {
        let _ = write!(out, ", {were_there} already there");
    }
    out.push('\n');
    out
}

/// Returns the size in the spec. nix2container's specs may lack the size of a base image's layer.
fn known_size(layer: &Layer, seen: Seen) -> u64 {
    if layer.size > 0 { layer.size } else { seen.size }
}

fn size(layer: &Layer, seen: Seen) -> String {
    let codec = match layer.codec() {
        Codec::None => "",
        codec => codec.name(),
    };
    match known_size(layer, seen) {
        0 => format!("? {codec:<4}"),
        bytes => format!("{} {codec:<4}", human(bytes)),
    }
}

/// Returns a layer's content, or its origin.
fn what(layer: &Layer) -> String {
    match (&layer.paths[..], &layer.layer_path) {
        ([path], _) => without_hash(path.path.as_str()).to_owned(),
        ([], _) if !layer.history.created_by.is_empty() => {
            let words: Vec<&str> = layer.history.created_by.split_whitespace().collect();
            let text = words.join(" ");
            match text.char_indices().nth(MAX_HISTORY_CHARACTERS) {
                Some((end, _)) => format!("{}...", text[..end].trim_end()),
                None => text,
            }
        }
        ([], Some(file)) => file.rsplit_once('/').map_or(file.as_str(), |(_, name)| name).to_owned(),
        (paths, _) => count(paths.len(), "path"),
    }
}

/// Returns the name of a store path.
fn without_hash(path: &str) -> &str {
    let name = path.rsplit_once('/').map_or(path, |(_, name)| name);
    name.split_once('-').map_or(name, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use nixply_packer::ImageSpec;

    use super::*;

    /// Returns a spec with these layers: size, suffix of the media type, and other fields.
    fn spec(layers: &[(u64, &str, &str)]) -> ImageSpec {
        let layer = |(size, media_type, fields): &(u64, &str, &str)| {
            let digest = format!("sha256:{}", "0".repeat(64));
            format!(
                r#"{{"digest":"{digest}","size":{size},"diff_ids":"{digest}","mediatype":"layer.v1.tar{media_type}",{fields}}}"#
            )
        };
        let layers = layers.iter().map(layer).collect::<Vec<_>>().join(",");
        ImageSpec::read(&format!(r#"{{"version":1,"layers":[{layers}]}}"#), "test").unwrap()
    }

    fn sent(size: u64, sent: u64) -> Seen {
        Seen { size, sent, whole: size == sent }
    }

    const PATH: &str = r#""paths":[{"path":"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-hello-2.12"}]"#;
    const PATHS: &str = r#""paths":[{"path":"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a"},{"path":"/nix/store/0123456789abcdfghijklmnpqrsvwxyz-b"}]"#;

    #[test]
    fn every_layer_has_a_row() {
        let long = format!(
            r#""layer-path":"/a/b.tar","History":{{"created_by":"/bin/sh -c\n  {}"}}"#,
            "x".repeat(60)
        );
        let spec = spec(&[
            (0, ".gzip", &long),
            (45_200_000, ".gzip", r#""layer-path":"/a/b.tar""#),
            (80_100_000, "", PATHS),
            (1000, "+zstd", PATH),
            (0, "", r#""paths":null"#),
        ]);
        let seen =
            [sent(500, 500), Seen::default(), sent(40_000_000, 40_000_000), sent(1000, 900), Seen::default()];
        let expected = "\
layer           size       sent
    1     500 B gzip      500 B  sent           /bin/sh -c xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...
    2   45.2 MB gzip             already there  b.tar
    3   80.1 MB         40.0 MB  sent           2 paths
    4    1.0 kB zstd      900 B  sent in part   hello-2.12
    5         ?                  already there  0 paths
5 layers, 125.3 MB; 2 sent (40.0 MB), 1 in part, 2 already there
";
        assert_eq!(table(&spec.layers, &seen), expected);
    }

    #[test]
    fn unchanged_layers_of_large_images_share_a_row() {
        let layers = [(1_000_000, "", PATHS); 21];
        let mut seen = [Seen::default(); 21];
        seen[6] = sent(700_000, 700_000);
        let expected = "\
layer           size       sent
    7    1.0 MB        700.0 kB  sent           2 paths
  ...        20.0 MB             already there  20 layers
21 layers, 21.0 MB; 1 sent (700.0 kB), 20 already there
";
        assert_eq!(table(&spec(&layers).layers, &seen), expected);
        assert!(!table(&spec(&layers[..20]).layers, &seen[..20]).contains("..."));
        let all = [sent(1, 1); 21];
        assert!(
            table(&spec(&layers).layers, &all).ends_with("2 paths\n21 layers, 21.0 MB; 21 sent (21 B)\n")
        );
        let none = [Seen::default(); 1];
        assert!(
            table(&spec(&layers[..1]).layers, &none)
                .ends_with("\n1 layer, 1.0 MB; none sent, 1 already there\n")
        );
    }
}

//! Chooses the codec of the layers for a destination, so that skopeo need not recompress them.

use std::mem::discriminant;

use nixply_packer::{Codec, Layer};
use nixply_registry::content::Compression;

use super::command_line::{CommandLine, Verb};

/// Returns the codec that skopeo would use for plain tar at this destination. A codec that the layers record overrides skopeo's
/// default.
pub(crate) fn compression_for(line: &CommandLine<'_>, layers: &[&Layer]) -> Compression {
    if line.verb == Verb::Layers {
        return Compression::Recorded(Codec::None);
    }
    let destination = line.destination().unwrap_or_default().to_string_lossy();
    let transport = destination.split(':').next().unwrap_or_default();
    let compresses = match transport {
        "docker" => true,
        "oci" | "oci-archive" => !line.is_on("dest-oci-accept-uncompressed-layers"),
        "dir" => line.is_on("dest-compress"),
        _ => false,
    };
    let format = line.value("dest-compress-format").map(|format| format.to_string_lossy());
    let level = line.value("dest-compress-level").and_then(|level| level.to_str()?.parse().ok());
    let asked = match format.as_deref() {
        _ if !compresses => None,
        Some(name) if Codec::with_level_near(name, None).is_some_and(|codec| codec != Codec::None) => {
            near(name, level)
        }
        // For zstd:chunked and other formats, skopeo compresses plain tar itself.
        Some(_) => Some(Codec::None),
        None => None,
    };
    if let Some(codec) = asked {
        // If the spec's layers already have this codec, keep them, because their digests are known. If the user asks for a level,
        // theirs may differ from it.
        let is_so = |layer: &&Layer| {
            let recorded = layer.compression.unwrap_or_default();
            recorded == Codec::None || discriminant(&recorded) == discriminant(&codec)
        };
        let keep = level.is_none() && layers.iter().all(is_so);
        return if keep { Compression::Recorded(codec) } else { Compression::Always(codec) };
    }
    let unasked = if compresses { near("gzip", level).unwrap_or_default() } else { Codec::None };
    // Docker's manifest format supports only the codecs that every client can read.
    let docker = matches!(transport, "docker-daemon" | "docker-archive")
        || line.value("format").is_some_and(|format| format.to_string_lossy().starts_with("v2"));
    let codec = |layer: &Layer| layer.kept_codec().or(layer.compression).unwrap_or_default();
    let unsupported = layers.iter().any(|layer| !codec(layer).is_universal());
    if docker && unsupported { Compression::Always(unasked) } else { Compression::Recorded(unasked) }
}

/// Returns the codec of this name at the level that is nearest to skopeo's. A negative level is the codec's default.
fn near(name: &str, level: Option<i32>) -> Option<Codec> {
    Codec::with_level_near(name, level.filter(|level| *level >= 0).map(i64::from))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use nixply_packer::ImageSpec;

    use super::*;

    fn spec(compression: &str) -> ImageSpec {
        let compression =
            if compression.is_empty() { String::new() } else { format!(r#","compression":"{compression}""#) };
        let digest = format!("sha256:{}", "0".repeat(64));
        let text = format!(
            r#"{{"version":1,"image-config":{{}},"layers":[{{
                "digest":"{digest}","size":1,"diff_ids":"{digest}","mediatype":"m"{compression}
            }}],"arch":"amd64","created":null}}"#
        );
        ImageSpec::read(&text, "test").unwrap()
    }

    #[test]
    fn codecs_match_what_skopeo_would_use() {
        for (line, recorded, offered) in [
            ("copy nix:a docker://b", "", "recorded, else gzip:6"),
            ("copy nix:a docker://b", "zstd:5", "recorded, else gzip:6"),
            ("copy nix:a oci:b", "", "recorded, else gzip:6"),
            ("copy nix:a oci:b --dest-oci-accept-uncompressed-layers", "", "recorded, else none"),
            ("copy nix:a oci-archive:b", "", "recorded, else gzip:6"),
            ("copy nix:a dir:b", "", "recorded, else none"),
            ("copy nix:a dir:b --dest-compress", "", "recorded, else gzip:6"),
            ("copy nix:a dir:b --dest-compress --dest-compress-format zstd", "", "recorded, else zstd:3"),
            ("copy nix:a dir:b --dest-compress-format zstd", "", "recorded, else none"),
            ("copy nix:a docker-daemon:b:t", "", "recorded, else none"),
            ("copy nix:a docker-daemon:b:t", "gzip:6", "recorded, else none"),
            ("copy nix:a docker-daemon:b:t", "zstd:5", "none"),
            ("copy nix:a docker-archive:b", "zstd:5", "none"),
            ("copy nix:a containers-storage:b", "zstd:5", "recorded, else none"),
            ("copy nix:a containers-storage:b", "", "recorded, else none"),
            ("copy nix:a docker://b -f v2s2", "zstd:5", "gzip:6"),
            ("copy nix:a docker://b --format oci", "zstd:5", "recorded, else gzip:6"),
            ("copy nix:a docker://b --dest-compress-level 9", "", "recorded, else gzip:9"),
            ("copy nix:a docker://b --dest-compress-level=-1", "", "recorded, else gzip:6"),
            ("copy nix:a docker://b --dest-compress-level 0", "", "recorded, else gzip:1"),
            ("copy nix:a docker://b --dest-compress-format zstd", "", "recorded, else zstd:3"),
            ("copy nix:a docker://b --dest-compress-format zstd", "zstd:5", "recorded, else zstd:3"),
            ("copy nix:a docker://b --dest-compress-format zstd --dest-compress-level 9", "zstd:5", "zstd:9"),
            ("copy nix:a docker://b --dest-compress-format gzip", "zstd:5", "gzip:6"),
            ("copy --dest-compress-format=zstd --dest-compress-level 400 nix:a docker://b", "", "zstd:19"),
            ("copy nix:a docker://b --dest-compress-format zstd:chunked", "", "recorded, else none"),
            ("copy nix:a docker://b --dest-compress-format zstd:chunked", "zstd:5", "none"),
            ("copy nix:a", "", "recorded, else none"),
            ("layers nix:a docker://b", "", "recorded, else none"),
        ] {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let read = CommandLine::of(&arguments).unwrap();
            let spec = spec(recorded);
            let layers: Vec<_> = spec.layers.iter().collect();
            assert_eq!(compression_for(&read, &layers).to_string(), offered, "{line} {recorded}");
        }
    }

    /// A layer of a base image is a file.
    #[test]
    fn docker_formats_get_no_zstd_layers_of_base_images() {
        let mut spec = spec("");
        spec.layers[0].layer_path = Some("/a".into());
        spec.layers[0].media_type = "application/vnd.oci.image.layer.v1.tar+zstd".into();
        for (line, offered) in [
            ("copy nix:a docker-archive:b", "none"),
            ("copy nix:a docker://b -f v2s2", "gzip:6"),
            ("copy nix:a docker://b", "recorded, else gzip:6"),
        ] {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(
                compression_for(
                    &CommandLine::of(&arguments).unwrap(),
                    &spec.layers.iter().collect::<Vec<_>>()
                )
                .to_string(),
                offered,
                "{line}"
            );
        }
    }
}

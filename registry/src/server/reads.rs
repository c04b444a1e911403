//! What an asker can read, and the codec that it is offered.

use std::fmt;
use std::str::FromStr;

use hyper::HeaderMap;
use hyper::header::{ACCEPT, USER_AGENT};
use nixply_packer::compress::Codec;
use nixply_packer::image::spec::Layer;
use nixply_packer::image::{blob, oci};

/// How layers are compressed for those who ask. Layers of base images keep the form that their files have, but `Auto`
/// gives them in gzip to readers that know no zstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// What the spec says of a layer; where it says nothing, zstd. Gzip in place of zstd for readers that do not know it.
    #[default]
    Auto,
    /// What the spec says of a layer; where it says nothing, this. Whoever asks.
    Recorded(Codec),
    /// This, whoever asks and whatever the spec says.
    Always(Codec),
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Recorded(codec) => write!(f, "recorded, else {codec}"),
            Self::Always(codec) => codec.fmt(f),
        }
    }
}

impl FromStr for Compression {
    type Err = nixply_packer::Error;

    /// `auto`, or a codec as [`Codec`] reads it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Always) }
    }
}

impl Compression {
    /// The codec of a layer for an asker.
    pub(super) fn codec(self, layer: &Layer, reads: Reads) -> Codec {
        let default = |name: &str| name.parse().expect("it is a codec's name");
        match (self, layer.compression.unwrap_or_default(), reads) {
            (Self::Always(codec), ..) | (Self::Recorded(codec), Codec::None, _) => codec,
            (Self::Recorded(_), codec, _) => codec,
            (Self::Auto, Codec::None, Reads::Zstd) => default("zstd"),
            (Self::Auto, Codec::None | Codec::Zstd { .. }, Reads::Gzip) => default("gzip"),
            (Self::Auto, codec, _) => codec,
        }
    }

    /// The codec that a base image's layer, which is kept in a file, is converted to for an asker; none where it is given as it
    /// is.
    pub(super) fn conversion(self, layer: &Layer, reads: Reads) -> Option<Codec> {
        let converts = self == Self::Auto && reads == Reads::Gzip && blob::is_kept_in_zstd(layer);
        converts.then(|| "gzip".parse().expect("it is a codec's name"))
    }
}

/// The best codec that an asker can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Everything.
    Zstd,
    /// No zstd.
    Gzip,
}

/// Since when programs read zstd layers, by the product in their User-Agent. Sources: Docker Engine 23.0 release notes
/// ("support for pulling images with zstd-compressed layers"), containerd 1.5 release notes. All others that know OCI's
/// manifests and are in use read it, skopeo and podman since 2019.
const ZSTD_SINCE: &[(&str, (u32, u32))] = &[("docker", (23, 0)), ("containerd", (1, 5))];

impl Reads {
    /// What a request tells of its sender.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        // zstd came with OCI's media types; Docker's own have no name for it.
        let knows_oci = accepted.flat_map(|value| value.split(',')).any(|kind| {
            kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(oci::MANIFEST))
        });
        let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if knows_oci && agent.split_whitespace().next().is_none_or(reads_zstd) {
            Self::Zstd
        } else {
            Self::Gzip
        }
    }
}

/// Whether a product, as in `docker/20.10.24`, reads zstd. A version that cannot be read counts as old.
fn reads_zstd(product: &str) -> bool {
    let (name, version) = product.split_once('/').unwrap_or((product, ""));
    let Some((_, since)) = ZSTD_SINCE.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) else {
        return true;
    };
    let mut numbers =
        version.trim_start_matches('v').split(['.', '-', '+']).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= *since
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(accept: &str, agent: &str) -> Reads {
        let mut headers = HeaderMap::new();
        if !accept.is_empty() {
            headers.append(ACCEPT, accept.parse().unwrap());
        }
        if !agent.is_empty() {
            headers.insert(USER_AGENT, agent.parse().unwrap());
        }
        Reads::of(&headers)
    }

    #[test]
    fn askers_are_known_by_their_headers() {
        let docker = "docker/20.10.24+dfsg1 go/go1.19.8 git-commit/5d6db84 kernel/6.1 os/linux arch/amd64";
        let both = format!("application/vnd.docker.distribution.manifest.v2+json, {};q=0.5", oci::MANIFEST);
        for (accept, agent, expected) in [
            (oci::MANIFEST, "skopeo/1.9.3", Reads::Zstd),
            (oci::MANIFEST, "", Reads::Zstd),
            (&both, "containers/5.23.1 (github.com/containers/image)", Reads::Zstd),
            (&both, docker, Reads::Gzip),
            (&both, "docker/23.0.0", Reads::Zstd),
            (&both, "docker/28.2.2+dfsg1 go/go1.24", Reads::Zstd),
            (&both, "Docker/1.13.1", Reads::Gzip),
            (&both, "docker/dev", Reads::Gzip),
            (&both, "containerd/1.4.13~ds1", Reads::Gzip),
            (&both, "containerd/v1.5.0", Reads::Zstd),
            (&both, "containerd/2.0.0+unknown", Reads::Zstd),
            ("application/vnd.docker.distribution.manifest.v2+json", "skopeo/1.9.3", Reads::Gzip),
            ("*/*", "curl/8", Reads::Gzip),
            ("", "", Reads::Gzip),
        ] {
            assert_eq!(reads(accept, agent), expected, "{accept} {agent}");
        }
    }

    #[test]
    fn codecs_are_chosen() {
        let layer = |compression: &str| Layer {
            digest: nixply_packer::digest::Digest::of(b""),
            size: 1,
            diff_id: nixply_packer::digest::DiffId::of(b""),
            paths: Vec::new(),
            media_type: String::new(),
            layer_path: None,
            compression: (!compression.is_empty()).then(|| compression.parse().unwrap()),
            key: None,
            history: Default::default(),
            history_before: Vec::new(),
            history_after: Vec::new(),
        };
        for (compression, recorded, reads, expected) in [
            ("auto", "", Reads::Zstd, "zstd:3"),
            ("auto", "", Reads::Gzip, "gzip:6"),
            ("auto", "zstd:9", Reads::Zstd, "zstd:9"),
            ("auto", "zstd:9", Reads::Gzip, "gzip:6"),
            ("auto", "gzip:1", Reads::Zstd, "gzip:1"),
            ("auto", "gzip:1", Reads::Gzip, "gzip:1"),
            ("none", "zstd", Reads::Zstd, "none"),
            ("zstd:2", "", Reads::Gzip, "zstd:2"),
        ] {
            let compression: Compression = compression.parse().unwrap();
            let codec = compression.codec(&layer(recorded), reads);
            assert_eq!(codec.to_string(), expected, "{compression} {recorded} {reads:?}");
        }
        for (recorded, expected) in
            [("", "gzip:9"), ("none", "gzip:9"), ("zstd:9", "zstd:9"), ("gzip:1", "gzip:1")]
        {
            let compression = Compression::Recorded("gzip:9".parse().unwrap());
            for reads in [Reads::Zstd, Reads::Gzip] {
                assert_eq!(compression.codec(&layer(recorded), reads).to_string(), expected, "{recorded}");
            }
        }
        assert!("automatic".parse::<Compression>().is_err());
    }
}

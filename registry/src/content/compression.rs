//! The codec of a layer for a client.

use std::fmt;
use std::str::FromStr;

use nixply_packer::{Codec, Layer};

use super::client_support::ClientSupport;

/// Compression of the layers that clients receive. Layers of base images keep the compression of their files,
/// except that `Auto` converts them to gzip for clients that do not support it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// The codec in the spec, else zstd; gzip for clients that do not support that codec.
    #[default]
    Auto,
    /// The codec in the spec, else this one, for every client.
    Recorded(Codec),
    /// This codec for every client and every spec.
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

    /// Parses `auto`, or a codec as [`Codec`] does.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Always) }
    }
}

impl Compression {
    /// Returns the codec of a layer for a client.
    pub(crate) fn codec(self, layer: &Layer, client: ClientSupport) -> Codec {
        match (self, layer.compression.unwrap_or_default()) {
            (Self::Always(codec), _) | (Self::Recorded(codec), Codec::None) => codec,
            (Self::Recorded(_), codec) => codec,
            (Self::Auto, codec) => {
                let best = if codec == Codec::None { default("zstd") } else { codec };
                if client.has(best) { best } else { default("gzip") }
            }
        }
    }

    /// Returns the codec that a base image's layer is converted to for a client. None if the client gets the
    /// file.
    pub(crate) fn conversion(self, layer: &Layer, client: ClientSupport) -> Option<Codec> {
        let is_unsupported = layer.kept_codec().is_some_and(|kept| !client.has(kept));
        (self == Self::Auto && is_unsupported).then(|| default("gzip"))
    }
}

/// Returns a codec with its default level.
fn default(name: &str) -> Codec {
    name.parse().expect("the name is that of a codec")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_depends_on_spec_and_client() {
        let layer = |compression: &str| Layer {
            digest: nixply_oci::Digest::of(b""),
            size: 1,
            diff_id: nixply_oci::DiffId::of(b""),
            paths: Vec::new(),
            media_type: String::new(),
            layer_path: None,
            compression: (!compression.is_empty()).then(|| compression.parse().unwrap()),
            key: None,
            history: Default::default(),
            history_before: Vec::new(),
            history_after: Vec::new(),
        };
        for (compression, recorded, client, expected) in [
            ("auto", "", ClientSupport::ALL, "zstd:3"),
            ("auto", "", ClientSupport::UNIVERSAL, "gzip:6"),
            ("auto", "zstd:9", ClientSupport::ALL, "zstd:9"),
            ("auto", "zstd:9", ClientSupport::UNIVERSAL, "gzip:6"),
            ("auto", "gzip:1", ClientSupport::ALL, "gzip:1"),
            ("auto", "gzip:1", ClientSupport::UNIVERSAL, "gzip:1"),
            ("none", "zstd", ClientSupport::ALL, "none"),
            ("zstd:2", "", ClientSupport::UNIVERSAL, "zstd:2"),
        ] {
            let compression: Compression = compression.parse().unwrap();
            let codec = compression.codec(&layer(recorded), client);
            assert_eq!(codec.to_string(), expected, "{compression} {recorded} {client:?}");
        }
        for (recorded, expected) in
            [("", "gzip:9"), ("none", "gzip:9"), ("zstd:9", "zstd:9"), ("gzip:1", "gzip:1")]
        {
            let compression = Compression::Recorded("gzip:9".parse().unwrap());
            for client in [ClientSupport::ALL, ClientSupport::UNIVERSAL] {
                assert_eq!(compression.codec(&layer(recorded), client).to_string(), expected, "{recorded}");
            }
        }
        assert!("automatic".parse::<Compression>().is_err());
    }
}

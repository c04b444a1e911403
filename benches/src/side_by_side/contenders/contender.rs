//! The interface of the compared tools.

use anyhow::Result;
use nixply_packer::Codec;

use super::runner::Runner;
use crate::scenario::Push;
use crate::side_by_side::closures::Closure;
use crate::side_by_side::measure::Usage;

/// The maximum number of layers in an image.
pub(crate) const LAYERS: usize = 100;

/// gzip, at the level of all contenders.
pub(crate) const GZIP: Codec = Codec::Gzip { level: 1 };

/// Zstandard, at the level of all contenders.
pub(crate) const ZSTD: Codec = Codec::Zstd { level: 1 };

/// The codecs that all contenders support. All compress at level 1, because their defaults differ.
pub(crate) const CODECS: [Codec; 2] = [GZIP, ZSTD];

/// A tool that is compared.
pub(crate) trait Contender {
    /// Its name in results.
    fn name(&self) -> &'static str;

    /// Number of layers of its images.
    fn layers(&self) -> usize {
        LAYERS
    }

    /// Builds the image.
    fn build(&self, runner: &Runner, closure: &Closure, codec: Codec, tag: &str) -> Result<Usage>;

    /// Imports the spec of a former image, if the tool can use it.
    fn learn(&self, _runner: &Runner, _tag: &str) -> Result<Usage> {
        Ok(Usage::default())
    }

    /// Pushes the image that was built.
    fn push(&self, runner: &Runner, codec: Codec, tag: &str) -> Result<Usage>;

    /// Returns whether to measure this push. Returns false if the tool does the same work as in another push.
    fn takes(&self, _: &Push) -> bool {
        true
    }

    /// Returns whether the tool is so slow that one run is enough to show the order of magnitude.
    fn is_slow(&self) -> bool {
        false
    }
}

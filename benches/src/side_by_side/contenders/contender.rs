//! The interface of the compared tools.

use anyhow::Result;
use nixply_packer::Codec;

use super::runner::Runner;
use crate::scenario::{Push, Received};
use crate::side_by_side::closures::Closure;
use crate::side_by_side::measure::Usage;

/// The maximum number of layers in an image.
pub(crate) const LAYERS: usize = 100;

/// The maximum number of layers in an image with other layers over the same store paths.
const OTHER_LAYERS: usize = 60;

/// gzip, at the level of all contenders.
pub(crate) const GZIP: Codec = Codec::Gzip { level: 1 };

/// Zstandard, at the level of all contenders.
pub(crate) const ZSTD: Codec = Codec::Zstd { level: 1 };

/// The codecs that all contenders support. All compress at level 1, because their defaults differ.
pub(crate) const CODECS: [Codec; 2] = [GZIP, ZSTD];

/// An image that a contender builds and pushes.
pub(crate) struct Image<'i> {
    /// Its store paths.
    pub closure: &'i Closure,
    /// Codec of its layers.
    pub codec: Codec,
    /// Its tag, which is also the name of its spec.
    pub tag: String,
    /// The result of an earlier build that can be used.
    pub received: Received,
}

impl Image<'_> {
    /// Returns the maximum number of its layers.
    pub(super) fn layers(&self) -> usize {
        if self.received == Received::Frames { OTHER_LAYERS } else { LAYERS }
    }
}

/// A tool that is compared.
pub(crate) trait Contender {
    /// Its name in results.
    fn name(&self) -> &'static str;

    /// Returns the maximum number of layers of an image.
    fn layers(&self, image: &Image<'_>) -> usize {
        image.layers()
    }

    /// Does the work of an earlier build, whose result the runner receives.
    fn prepare(&self, runner: &Runner, image: &Image<'_>) -> Result<()> {
        if image.received == Received::OwnSpec {
            self.build(runner, image)?;
        }
        Ok(())
    }

    /// Builds the image.
    fn build(&self, runner: &Runner, image: &Image<'_>) -> Result<Usage>;

    /// Imports the spec of a former image, if the tool can use it.
    fn learn(&self, _runner: &Runner, _tag: &str) -> Result<Usage> {
        Ok(Usage::default())
    }

    /// Pushes the image that was built.
    fn push(&self, runner: &Runner, image: &Image<'_>) -> Result<Usage>;

    /// Returns whether to measure this push. Returns false if the tool does the same work as in another push.
    fn takes(&self, push: &Push) -> bool {
        !push.received.is_from_push()
    }

    /// Returns whether the tool is so slow that one run is enough to show the order of magnitude.
    fn is_slow(&self) -> bool {
        false
    }
}

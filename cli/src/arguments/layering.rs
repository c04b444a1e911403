//! `--strategy` and `--max-layers`: overrides of a request's layering.

use nixply_packer::ImageRequest;
use nixply_planning::Strategy;

use super::values;

/// Overrides of how a request's store paths are grouped. The request's own `layers` are not affected.
#[derive(clap::Args)]
pub(crate) struct LayeringArgs {
    /// Strategy for store paths that are in none of the request's `layers` (overrides the request's strategy and groups)
    #[arg(long, value_name = "NAME", value_parser = values::strategy())]
    strategy: Option<Strategy>,

    /// Maximum number of layers for those paths (overrides maxLayers)
    #[arg(long, value_name = "N", value_parser = values::layers, allow_negative_numbers = true)]
    max_layers: Option<u64>,
}

impl LayeringArgs {
    /// Replaces the request's settings with those that were given.
    pub(crate) fn apply(&self, request: &mut ImageRequest) {
        if let Some(strategy) = self.strategy {
            request.strategy = Some(strategy);
            request.groups = None;
        }
        if let Some(count) = self.max_layers {
            request.max_layers = count as usize;
        }
    }
}

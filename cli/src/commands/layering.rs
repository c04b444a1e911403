//! `--strategy` and `--max-layers`: other layers than those that a request asks for.

use nixply_packer::plan::Strategy;
use nixply_packer::request::ImageRequest;

use super::values;

/// What is grouped otherwise than the request has it. The layers in its `layers` stay as they are.
#[derive(clap::Args)]
pub(crate) struct Layering {
    /// How to group the store paths that are in none of the request's `layers`, instead of the request's strategy and groups
    #[arg(long, value_name = "NAME", value_parser = values::strategy())]
    strategy: Option<Strategy>,

    /// At most so many layers for them, instead of the request's maxLayers
    #[arg(long, value_name = "N", value_parser = values::layers, allow_negative_numbers = true)]
    max_layers: Option<u32>,
}

impl Layering {
    /// Puts what was given in place of the request's own.
    pub(super) fn apply(&self, request: &mut ImageRequest) {
        if let Some(strategy) = self.strategy {
            request.strategy = Some(strategy);
            request.groups = None;
        }
        if let Some(count) = self.max_layers {
            request.max_layers = count as usize;
        }
    }
}

//! `nixply schema`: the JSON Schema of requests.

use anyhow::Result;
use nixply_packer::ImageRequest;

/// Print the JSON Schema of an image's request
///
/// Editors that know JSON Schema complete and check requests with it.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> Result<()> {
    crate::output::print(format!("{}\n", serde_json::to_string_pretty(ImageRequest::schema())?))
}

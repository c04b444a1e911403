//! The flag that chooses an image from an image index.

use anyhow::Result;
use nixply_oci::{LINUX, Platform, Processor};

use super::values;

/// Platform of an image in a registry.
#[derive(clap::Args)]
pub(crate) struct PlatformArgs {
    /// Platform to choose from an image index, such as linux/arm64 [default: linux and this machine's processor]
    #[arg(long, value_name = "OS/ARCH", value_parser = values::platform, help_heading = "Registry")]
    platform: Option<Platform>,
}

impl PlatformArgs {
    /// Returns the platform.
    pub(crate) fn platform(&self) -> Result<Platform> {
        match &self.platform {
            Some(platform) => Ok(platform.clone()),
            None => {
                let Processor { arch, variant } = Processor::of_this_machine()?;
                Ok(Platform { os: LINUX.into(), architecture: arch, variant })
            }
        }
    }
}

//! The real skopeo: running it with a `nix:` source, and copying containers with it.
//!
//! ```text
//! command_line ──> compression ────────> program
//! finds a nix:     chooses the codec     runs the real skopeo with a source
//! source           of the layers         that it supports instead of nix:
//!
//! destination ───> copy_script ────────> hints
//! can skopeo       runs a container's    for skopeo's
//! copy to it?      script                messages
//! ```

mod command_line;
mod compression;
mod copy_script;
pub(crate) mod destination;
mod hints;
mod program;
mod registries_conf;

pub(crate) use self::command_line::{CommandLine, Verb};
pub(crate) use self::compression::compression_for;
pub(crate) use self::copy_script::{OWN_REGISTRY, copy};
pub(crate) use self::program::Skopeo;
pub(crate) use self::registries_conf::has_rules_for;

/// Environment variable with a file that receives a copy of skopeo's messages, for callers that add hints.
const MESSAGES: &str = "NIXPLY_SKOPEO_MESSAGES";

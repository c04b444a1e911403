//! The border between the packer and C++: typed structs in, typed structs out, errors as text, nothing else. A request crosses as JSON,
//! because only the packer reads it.
//!
//! - [`bridge`] is the whole interface, as cxx reads it.
//! - `arguments` describes the arguments of an image to the plugin.
//! - `convert` converts the bridge's structs to the packer's types and back.
//! - `entry` has the functions that pack. None lets a panic cross.
//! - `drive` runs the packer on other threads while the caller's thread reports progress and polls for interrupts.

mod arguments;
#[allow(missing_docs, reason = "cxx's output; the fields that need words have them in the bridge")]
#[allow(unsafe_code, reason = "cxx's output")]
pub mod bridge;
mod convert;
mod drive;
mod entry;

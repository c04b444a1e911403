//! The border between the packer and C++: typed structs in, typed structs out, errors as text, nothing else.
//!
//! - [`bridge`] is the whole interface, as cxx reads it.
//! - `convert` turns its structs into the packer's and back.
//! - `entry` has the functions behind it. None lets a panic cross.
//! - `drive` runs the packer on other threads while the caller's thread asks whether to stop and tells how it goes.

#[allow(missing_docs, reason = "cxx's output; the fields that need words have them in the bridge")]
#[allow(unsafe_code, reason = "cxx's output")]
pub mod bridge;
mod convert;
mod drive;
mod entry;

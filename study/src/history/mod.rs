//! Histories: the contents of images, release by release.

mod directory;
mod packages;
mod release;
mod subject;
mod synthetic;

pub use self::release::{History, Propagation, Release};
pub use self::subject::Subject;
pub use self::synthetic::Fleet;

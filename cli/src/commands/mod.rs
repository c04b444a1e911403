//! The subcommands, one module each.

pub(crate) mod base;
pub(crate) mod build;
pub(crate) mod builder;
pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod container;
pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod layout;
pub(crate) mod man;
pub(crate) mod n2c;
pub(crate) mod nix_database;
pub(crate) mod plan;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod reference;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod skopeo;
pub(crate) mod strategies;
pub(crate) mod validate;

//! Evaluates the modules of development environments.

use crate::nix::Nix;

/// Returns a Nix expression that evaluates `of`. In scope are `config`, `options` and `extendModules` of an
/// environment with these modules.
pub fn config(modules: &str, of: &str) -> String {
    format!(
        r#"let
            evaluated = import {}/nix/evaluate.nix {{
              inherit pkgs;
              self = {}/examples/containers/artifacts;
              modules = [ {{ nixply.package = nixply; nixply.usePlugin = false; }} {modules} ];
            }};
            inherit (evaluated) config options extendModules;
            lib = pkgs.lib;
        in {of}"#,
        Nix::repository().display(),
        Nix::repository().display(),
    )
}

#pragma once

namespace nixply {

/// Registers builtins.nixplyImage and builtins.nixplyPlan.
void register_builtins();

/// Registers the builder builtin:nixply, where Nix has builtin builders.
void register_builder();

}

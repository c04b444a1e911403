#pragma once

namespace nixply {

/// Registers builtins.nixplyImage, builtins.nixplyImages, builtins.nixplyIndex and builtins.nixplyPlan.
void register_builtins();

/// Registers the builder builtin:nixply, in Nix versions with builtin builders.
void register_builder();

}

#pragma once

#include "rust/cxx.h"

namespace border_test {

struct Outcome;

/// Builds an image of one store path through the border, as the plugin does.
Outcome build(rust::Str real_store_dir, rust::Str store_path, rust::Str config, bool interrupt, std::uint32_t threads);

/// Plans an image of one store path. Returns a line per path of a layer: the path and the layer's size. Throws the border's
/// exceptions.
rust::String plan(rust::Str real_store_dir, rust::Str store_path, rust::Str strategy, rust::Str groups);

/// Plans a chain of `paths` store paths, and interrupts the planning if `interrupt` is true. Returns the number of layers, or the
/// message of an exception.
rust::String plan_chain(std::uint32_t paths, bool interrupt);

/// Plans an image whose closure also has this entry. Throws the border's exceptions.
void plan_with_entry(rust::Str store_path, rust::Str entry, rust::Str nar_hash);

/// Runs the builder with these structured attributes.
void builder(rust::Str attrs, rust::Str real_store_dir);

/// Describes the argument at a place such as `layers[0].perms`: the kinds of values that the schema allows there.
rust::String describe(rust::Str place);
/// Returns a line for each root path in a request: its place and the path.
rust::String roots(rust::Str request);
/// Checks a request. Throws the border's exceptions.
void check(rust::Str request);

}

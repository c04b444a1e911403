#pragma once

#include "rust/cxx.h"

namespace border_test {

struct Outcome;

/// Builds an image of one store path through the border, as the plugin does.
Outcome build(rust::Str real_store_dir, rust::Str store_path, rust::Str config, bool interrupt, std::uint32_t threads);

/// The same without packing; throws what the border throws.
rust::String plan(rust::Str real_store_dir, rust::Str store_path, rust::Str strategy, rust::Str groups);

/// Plans a chain of `paths` store paths, or is interrupted; returns an exception's message as text.
rust::String plan_chain(std::uint32_t paths, bool interrupt);

/// Plans an image whose closure also has this entry; throws the border's exceptions.
void plan_with_entry(rust::Str store_path, rust::Str entry, rust::Str nar_hash);

/// A builder's attributes through the border.
void builder(rust::Str attrs, rust::Str real_store_dir);

/// The nearest of three names.
rust::String describe(rust::Str place);
rust::String roots(rust::Str request);
void check(rust::Str request);

}

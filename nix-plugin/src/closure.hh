#pragma once

#include "arguments.hh"
#include "compat.hh"
#include "nixply-ffi/src/bridge.rs.h"

namespace nixply {

/// Valid store paths with their closure, protected from garbage collection.
struct Query {
    rust::Vec<PathInfo> closure;
    PackerSettings packer;
};

/// Realises all store paths in the images' arguments at once, completes their requests with the resulting paths, and asks the
/// store for their common closure.
Query realise(nix::EvalState & state, std::vector<Arguments> & images, const compat::Position & pos,
              const std::string & builtin);

}

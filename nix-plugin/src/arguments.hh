#pragma once

#include <set>
#include <string>
#include <vector>

#include "compat.hh"
#include "nixply-ffi/src/bridge.rs.h"

namespace nixply {

/// What the user's arguments say, still with placeholders of what is not built.
struct Arguments {
    std::string name;
    /// As registries have it.
    std::string canonical_name;
    /// Empty where none is given.
    std::string tag;
    ImageRequest request;
    /// Everything that any argument names.
    compat::Context context;
    /// What the config alone names.
    compat::Context config_context;
};

/// Forces and checks the arguments of `builtin`. An error names the argument and has its position. Where they are one image's
/// of several, `key` is the image's attribute, and its name if it has none.
Arguments read_arguments(nix::EvalState & state, nix::Value & v, const compat::Position & pos,
                         const std::string & builtin, const std::string & key = "");

/// Replaces placeholders in everything that was read, now that it is built.
void rewrite(Arguments & arguments, const nix::StringMap & rewrites);

}

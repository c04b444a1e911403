#pragma once

#include <map>
#include <string>

#include "compat.hh"
#include "nixply-ffi/src/bridge.rs.h"

namespace nixply {

/// The positions of a value's parts in the user's files, by their places: `layers[1].perms[2].mode`.
class Places {
public:
    void add(const std::string & place, const compat::Position & pos) { positions.insert_or_assign(place, pos); }

    /// The position that a message of the packer is about: that of the longest place at its beginning. Otherwise `call`.
    compat::Position of(const std::string & message, const compat::Position & call) const;

private:
    std::map<std::string, compat::Position> positions;
};

/// The arguments of an image or an image index as JSON, for the packer. Store paths that are not built yet are placeholders in it.
struct Arguments {
    RequestKind kind;
    nlohmann::json request;
    Places places;
    /// The store paths that the arguments name.
    compat::Context context;
    /// The store paths that the config names; `context` contains them too.
    compat::Context config_context;

    std::string name() const { return request.at("name"); }
    /// The tag, or nothing.
    std::string tag() const { return request.value("tag", ""); }
};

/// Evaluates and checks the arguments of `builtin`. Errors have the position of the argument. For one image of several, `key` is the
/// image's attribute, and its name if it has none.
Arguments read_arguments(nix::EvalState & state, nix::Value & v, const compat::Position & pos,
                         const std::string & builtin, const std::string & key = "",
                         RequestKind kind = RequestKind::Image);

}

#pragma once

#include "compat.hh"

namespace nixply {

/// Options of nix.conf and the command line.
struct Settings : nix::Config {
    nix::Setting<unsigned int> jobs{this, 0, "nixply-jobs", "Threads that pack an image; 0 is one for each core."};

    /// The one instance. It registers itself with Nix when it is first asked for.
    static Settings & get();
};

}

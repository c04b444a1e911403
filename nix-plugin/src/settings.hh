#pragma once

#include "compat.hh"

namespace nixply {

/// Options of nix.conf and the command line.
struct Settings : nix::Config {
    nix::Setting<unsigned int> jobs{this, 0, "nixply-jobs", "Threads that pack an image; 0 is one for each core."};

    nix::Setting<std::string> cacheDir{
        this, "", "nixply-cache-dir",
        "Folder in which nixply remembers the layers that it has packed. Empty is `nixply` in the XDG cache directory; "
        "`none` is nowhere."};

    /// The cache folder that the settings and the environment name, or an empty string for none.
    std::string cache_dir() const;

    /// The one instance. It registers itself with Nix when it is first asked for.
    static Settings & get();
};

}

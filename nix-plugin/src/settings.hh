#pragma once

#include "compat.hh"
#include "rust/cxx.h"

namespace nixply {

/// Options of nix.conf and the command line.
struct Settings : nix::Config {
    nix::Setting<unsigned int> jobs{this, 0, "nixply-jobs", "Threads that pack an image; 0 is one for each core."};

    nix::Setting<std::string> cacheDir{
        this, "", "nixply-cache-dir",
        "Folder in which nixply remembers the layers that it has packed. Empty is `nixply` in the XDG cache directory; "
        "`none` is nowhere."};

    /// The packer reads it, which knows units.
    nix::Setting<std::string> cacheLimit{
        this, "0", "nixply-cache-limit",
        "How large the cache may become, in bytes or as in `20GB`; what was of no use for longest goes first. 0 is ten "
        "gigabytes."};

    nix::Setting<nix::Strings> cacheShared{
        this,
        {},
        "nixply-cache-shared",
        "Cache folders of others, which are read and never written. Whoever can write to one decides what is in images."};

    nix::Setting<bool> checkStore{
        this, false, "nixply-check-store",
        "Whether the archives of store paths that are read are hashed and compared with what Nix knows of them. Each byte "
        "that is read is hashed a second time for it."};

    /// The shared folders; all must be absolute.
    rust::Vec<rust::String> cache_shared() const;

    /// The cache folder that the settings and the environment name, or an empty string for none.
    std::string cache_dir() const;

    /// The one instance. It registers itself with Nix when it is first asked for.
    static Settings & get();
};

}

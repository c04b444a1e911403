#pragma once

#include "compat.hh"
#include "rust/cxx.h"

namespace nixply {

/// The plugin's settings, in nix.conf and on the command line.
struct Settings : nix::Config {
    nix::Setting<unsigned int> jobs{this, 0, "nixply-jobs",
                                    "Number of threads that pack an image; 0 means one per core."};

    nix::Setting<std::string> cacheDir{
        this, "", "nixply-cache-dir",
        "Directory of nixply's cache of packed layers. If empty, `nixply` in the XDG cache directory; `none` turns the cache "
        "off."};

    /// Text, because the packer parses the unit.
    nix::Setting<std::string> cacheLimit{
        this, "0", "nixply-cache-limit",
        "Maximum size of the cache, in bytes or with a unit as in `20GB`. nixply evicts the least recently used entries. 0 means "
        "10 GB."};

    nix::Setting<nix::Strings> cacheShared{
        this,
        {},
        "nixply-cache-shared",
        "Cache directories of other users, which nixply only reads. A user who can write to one controls the content of images."};

    nix::Setting<bool> checkStore{
        this, false, "nixply-check-store",
        "Whether to compare the hashes of store paths with those in Nix's database when packing reads them. Hashes each byte "
        "that it reads a second time."};

    /// The shared cache directories. Throws if a path is not absolute.
    rust::Vec<rust::String> cache_shared() const;

    /// The cache directory from the settings and the environment. Empty without one.
    std::string cache_dir() const;

    /// The only instance. The first call registers it with Nix.
    static Settings & get();
};

}

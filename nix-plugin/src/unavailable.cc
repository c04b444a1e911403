// The library when built without Nix's headers: prints one line when a Nix loads it.

#include <cstdio>

namespace {

[[gnu::constructor]] void decline() {
    std::fputs("warning: nixply: this plugin was built without Nix's headers and does nothing; build it again with "
               "NIXPLY_NIX_PREFIX set to the Nix that will load it\n",
               stderr);
}

}

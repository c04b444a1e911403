// Registration: runs when Nix loads the library. The plugin first checks that this is the Nix it was built for, without using
// any of Nix's code. If it differs, the plugin prints one line and registers nothing.

#include <cstdio>
#include <cstdlib>
#include <string>

#include <dlfcn.h>

#include "image.hh"
#include "settings.hh"

namespace nixply {

std::string Settings::cache_dir() const {
    auto given = cacheDir.get();
    if (given == "none") return "";
    if (!given.empty() && given.front() != '/')
        throw nix::UsageError("setting 'nixply-cache-dir' must be an absolute path or 'none', but it is '%s'", given);
    if (!given.empty()) return given;
    // XDG Base Directory Specification: a path that is not absolute counts as unset.
    auto absolute = [](const char * name) {
        auto * value = std::getenv(name);
        return value && *value == '/' ? std::string(value) : std::string();
    };
    if (auto cache = absolute("XDG_CACHE_HOME"); !cache.empty()) return cache + "/nixply";
    if (auto home = absolute("HOME"); !home.empty()) return home + "/.cache/nixply";
    return "";
}

rust::Vec<rust::String> Settings::cache_shared() const {
    rust::Vec<rust::String> directories;
    for (auto & directory : cacheShared.get()) {
        if (directory.empty() || directory.front() != '/')
            throw nix::UsageError("setting 'nixply-cache-shared' must name absolute paths, but it has '%s'", directory);
        directories.push_back(directory);
    }
    return directories;
}

Settings & Settings::get() {
    static Settings settings;
    static nix::GlobalConfig::Register registered(&settings);
    return settings;
}

namespace {

constexpr const char * required[] = {
#include "required_symbols.inc"
};

/// The version up to the second dot. All releases of a minor version have the parts of Nix's interface that this plugin uses, as a
/// rule. `misfit` also looks up the required symbols, which finds the exceptions.
std::string minor(const std::string & version) {
    auto dot = version.find('.', version.find('.') + 1);
    return version.substr(0, dot);
}

/// The reason why this Nix cannot load the plugin, or an empty string.
std::string misfit() {
    auto * symbol = dlsym(RTLD_DEFAULT, "_ZN3nix10nixVersionB5cxx11E");
    if (!symbol) return "this nix exports no symbols for plugins (a static build, as Debian's is since trixie)";
    auto & version = *static_cast<const std::string *>(symbol);
    if (minor(version) != minor(NIXPLY_BUILT_FOR)) return "this is Nix " + version;
    for (auto * name : required)
        if (!dlsym(RTLD_DEFAULT, name)) return "this Nix " + version + " is another build: it lacks " + name;
    return {};
}

[[gnu::constructor]] void register_plugin() {
    auto why = misfit();
    if (!why.empty()) {
        std::fprintf(stderr,
                     "warning: nixply: plugin not loaded: it was built for Nix " NIXPLY_BUILT_FOR
                     ", but %s; build it for "
                     "this Nix, or use the functions in nix/ with usePlugin = false\n",
                     why.c_str());
        return;
    }
    Settings::get();
    register_builtins();
    register_builder();
}

}

}

#include "image.hh"

#include "compat.hh"
#include "progress.hh"
#include "settings.hh"
#include "nixply-ffi/src/bridge.rs.h"

namespace nixply {

void register_builder() {
    // Takes the same request as builtins.nixplyImage, from a derivation's structured attributes: `request`, with the closure in
    // exportReferencesGraph.closure.
    compat::register_builder("nixply", [](const auto & context) {
        auto directory = std::filesystem::path(context.tmpDirInSandbox);
        auto attrs = nix::readFile((directory / ".attrs.json").string());
        auto output = std::filesystem::path(context.outputs.at("out")).string();
        auto store_dir = std::filesystem::path(output).parent_path().string();
        Progress progress("packing image '" + std::filesystem::path(output).filename().string().substr(33) + "'");
        call(
            progress,
            [&] {
                auto & settings = Settings::get();
                PackerSettings packer{store_dir, store_dir, settings.jobs.get(), "", "", {}, settings.checkStore.get()};
                run_builder(attrs, packer, progress);
                return true;
            },
            [](const std::string & why) { throw nix::Error("cannot pack image: %s", why); });
    });
}

}

#include "driver.hh"

#include <array>
#include <string>
#include <thread>

#include "nixply-border-test/src/lib.rs.h"
#include "nixply-ffi/src/bridge.rs.h"
#include "nixply/observer.hh"

namespace border_test {

namespace {

class Recorder : public nixply::Observer {
public:
    explicit Recorder(bool interrupt) : interrupt(interrupt) {}

    bool interrupted() noexcept override {
        here();
        return interrupt;
    }
    void layer_started(std::uint32_t layer, std::uint64_t expected) noexcept override {
        here();
        log += "started " + std::to_string(layer) + " of " + std::to_string(expected) + "\n";
    }
    void layer_progress(std::uint32_t, std::uint64_t packed) noexcept override {
        here();
        this->packed = packed;
    }
    void layer_finished(std::uint32_t layer) noexcept override {
        here();
        log += "finished " + std::to_string(layer) + " with " + std::to_string(packed) + "\n";
    }
    void warn(rust::Str text) noexcept override {
        here();
        log += "warning " + std::string(text) + "\n";
    }

    std::string log;
    bool elsewhere = false;

private:
    void here() noexcept { elsewhere |= std::this_thread::get_id() != caller; }

    bool interrupt;
    std::uint64_t packed = 0;
    std::thread::id caller = std::this_thread::get_id();
};

rust::String owned(rust::Str text) { return std::string(text); }

nixply::Machine machine(rust::Str real_store_dir, std::uint32_t threads) {
    return {"/nix/store", owned(real_store_dir), threads, "", "", {}, false};
}

rust::Vec<nixply::PathInfo> closure(rust::Str store_path) {
    rust::Vec<nixply::PathInfo> infos;
    infos.push_back({owned(store_path), "sha256-x", 1000, {}});
    return infos;
}

nixply::ImageRequest request(rust::Str store_path, rust::Str config) {
    nixply::ImageRequest request{};
    request.config = owned(config);
    request.config_roots.push_back(owned(store_path));
    request.top.max_layers = 1;
    request.system = "x86_64-linux";
    request.created = "0001-01-01T00:00:00Z";
    return request;
}

}

Outcome build(rust::Str real_store_dir, rust::Str store_path, rust::Str config, bool interrupt, std::uint32_t threads) {
    Recorder recorder(interrupt);
    Outcome outcome{};
    try {
        auto image = nixply::build_image(request(store_path, config), closure(store_path),
                                         machine(real_store_dir, threads), recorder);
        outcome.spec = image.spec;
        outcome.manifest = image.manifest_digest;
        for (auto & reference : image.references) outcome.references.push_back(reference);
    } catch (const rust::Error & error) {
        outcome.error = error.what();
    }
    outcome.log = recorder.log;
    outcome.called_elsewhere = recorder.elsewhere;
    return outcome;
}

rust::String plan(rust::Str real_store_dir, rust::Str store_path, rust::Str strategy, rust::Str groups) {
    auto asked = request(store_path, "{\"Cmd\":[\"" + std::string(store_path) + "\"]}");
    asked.top.strategy = owned(strategy);
    asked.top.groups = owned(groups);
    std::string shown;
    for (auto & layer : nixply::plan_image(asked, closure(store_path), machine(real_store_dir, 1)))
        for (auto & path : layer.paths) shown += std::string(path) + " " + std::to_string(layer.size) + "\n";
    return shown;
}

void builder(rust::Str attrs, rust::Str real_store_dir) {
    Recorder recorder(false);
    nixply::run_builder(attrs, machine(real_store_dir, 2), recorder);
}

rust::String nearest(rust::Str name) {
    std::array<const rust::Str, 3> known{"name", "maxLayers", "copyToRoot"};
    return nixply::nearest(name, rust::Slice<const rust::Str>(known.data(), known.size()));
}

}

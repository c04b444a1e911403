#include "driver.hh"

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

nixply::PackerSettings packer(rust::Str real_store_dir, std::uint32_t threads) {
    return {"/nix/store", owned(real_store_dir), threads, "", "", {}, false};
}

rust::Vec<nixply::PathInfo> closure(rust::Str store_path) {
    rust::Vec<nixply::PathInfo> infos;
    infos.push_back({owned(store_path), "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", 1000, {}});
    return infos;
}

/// A request as JSON, with `more` members.
std::string request(rust::Str store_path, rust::Str config, const std::string & more = "") {
    return "{\"name\":\"Thing\",\"system\":\"x86_64-linux\",\"configRoots\":[\"" + std::string(store_path) +
           "\"],\"config\":" + std::string(config) + more + "}";
}

}

Outcome build(rust::Str real_store_dir, rust::Str store_path, rust::Str config, bool interrupt, std::uint32_t threads) {
    Recorder recorder(interrupt);
    Outcome outcome{};
    try {
        auto image = nixply::build_image(request(store_path, config), closure(store_path),
                                         packer(real_store_dir, threads), recorder);
        outcome.spec = image.spec;
        outcome.manifest = image.manifest_digest;
        outcome.name = image.name;
        for (auto & reference : image.references) outcome.references.push_back(reference);
    } catch (const rust::Error & error) {
        outcome.error = error.what();
    }
    outcome.log = recorder.log;
    outcome.called_elsewhere = recorder.elsewhere;
    return outcome;
}

rust::String plan(rust::Str real_store_dir, rust::Str store_path, rust::Str strategy, rust::Str groups) {
    std::string more;
    if (!strategy.empty()) more += ",\"strategy\":\"" + std::string(strategy) + "\"";
    if (!groups.empty()) more += ",\"groups\":" + std::string(groups);
    auto asked = request(store_path, "{\"Cmd\":[\"" + std::string(store_path) + "\"]}", more);
    std::string shown;
    Recorder recorder(false);
    for (auto & layer : nixply::plan_image(asked, closure(store_path), packer(real_store_dir, 1), recorder))
        for (auto & path : layer.paths) shown += std::string(path) + " " + std::to_string(layer.size) + "\n";
    return shown;
}

rust::String plan_chain(std::uint32_t paths, bool interrupt) {
    auto name = [](std::uint32_t number) {
        auto digits = std::to_string(number);
        return "/nix/store/" + std::string(32 - digits.size(), '0') + digits + "-p" + digits + "-1.0";
    };
    rust::Vec<nixply::PathInfo> infos;
    for (std::uint32_t at = 0; at < paths; at++) {
        nixply::PathInfo info{name(at), "", 1000 + at * 7919ull % 100000, {}};
        if (at + 1 < paths) info.references.push_back(name(at + 1));
        infos.push_back(std::move(info));
    }
    auto asked = request(name(0), "{\"Cmd\":[\"" + name(0) + "\"]}", ",\"maxLayers\":100");
    Recorder recorder(interrupt);
    try {
        return std::to_string(nixply::plan_image(asked, infos, packer("/nowhere", 1), recorder).size());
    } catch (const rust::Error & error) {
        return error.what();
    }
}

void plan_with_entry(rust::Str store_path, rust::Str entry, rust::Str nar_hash) {
    auto infos = closure(store_path);
    infos.push_back({owned(entry), owned(nar_hash), 1, {}});
    Recorder recorder(false);
    nixply::plan_image(request(store_path, "{}"), infos, packer("/nowhere", 1), recorder);
}

void builder(rust::Str attrs, rust::Str real_store_dir) {
    Recorder recorder(false);
    nixply::run_builder(attrs, packer(real_store_dir, 2), recorder);
}

rust::String describe(rust::Str place) {
    auto argument = nixply::request_argument(nixply::RequestKind::Image);
    std::string key;
    auto step = [&] {
        if (!key.empty())
            argument =
                argument->has_key(key) ? argument->key(key) : nixply::request_argument(nixply::RequestKind::Image);
        key.clear();
    };
    bool index = false;
    for (char letter : std::string(place)) {
        if (letter == '[') {
            step();
            argument = argument->element();
        } else if (letter == '.')
            step();
        else if (letter != ']' && !index)
            key += letter;
        index = letter == '[' || (index && letter != ']');
    }
    step();
    std::string shown;
    if (argument->takes_object()) shown += " object";
    if (argument->takes_list()) shown += " list";
    if (argument->names_nothing()) shown += " plain";
    if (argument->is_config()) shown += " config";
    return shown;
}

rust::String roots(rust::Str request) {
    std::string shown;
    for (auto & text : nixply::root_texts(nixply::RequestKind::Image, request))
        shown += std::string(text.place) + " " + std::string(text.path) + "\n";
    return shown;
}

void check(rust::Str request) { nixply::check_request(nixply::RequestKind::Image, request, "builtins.test"); }

}

#include "progress.hh"

namespace nixply {

Progress::Progress(const std::string & what, nix::Verbosity level)
    : activity(*nix::logger, level, nix::actUnknown, what) {}

Progress::~Progress() = default;

bool Progress::interrupted() noexcept {
    try {
        nix::checkInterrupt();
        return false;
    } catch (...) {
        // Nix throws only once for each Ctrl-C. `call` throws again.
        was_interrupted = true;
        return true;
    }
}

// A logger that cannot write must not end a build, and no exception may cross into Rust.

void Progress::layer_started(std::uint32_t layer, std::uint64_t expected) noexcept {
    try {
        auto text = "packing layer " + std::to_string(layer + 1);
        // Not make_unique, because the type of the empty fields differs between Nix versions (2.36: a span).
        std::unique_ptr<nix::Activity> activity(
            new nix::Activity(*nix::logger, nix::lvlTalkative, nix::actUnknown, text, {}, this->activity.id));
        layers[layer] = {std::move(activity), expected, 0};
        show();
    } catch (...) {
    }
}

void Progress::layer_progress(std::uint32_t layer, std::uint64_t packed) noexcept {
    try {
        auto & there = layers[layer];
        there.packed = packed;
        if (there.activity) there.activity->progress(packed, std::max(packed, there.expected));
        show();
    } catch (...) {
    }
}

void Progress::layer_finished(std::uint32_t layer) noexcept {
    try {
        auto & there = layers[layer];
        there.activity.reset();
        there.expected = there.packed;
        finished++;
        show();
    } catch (...) {
    }
}

void Progress::warn(rust::Str text) noexcept {
    try {
        nix::logger->warn(std::string(text));
    } catch (...) {
    }
}

void Progress::show() noexcept {
    std::uint64_t packed = 0, expected = 0;
    for (auto & [number, layer] : layers) {
        packed += layer.packed;
        expected += std::max(layer.packed, layer.expected);
    }
    activity.progress(packed, expected, layers.size() - finished);
}

}

#pragma once

#include <map>
#include <memory>

#include "compat.hh"
#include "nixply/observer.hh"

namespace nixply {

/// Tells Nix's logger how packing goes, as an activity for the image and one for each layer, and asks Nix whether the
/// user has interrupted it.
class Progress : public Observer {
public:
    /// `what` is done, as in "packing image 'web'". Nix shows it from this verbosity on.
    explicit Progress(const std::string & what, nix::Verbosity level = nix::lvlInfo);
    ~Progress() override;

    bool interrupted() noexcept override;
    void layer_started(std::uint32_t layer, std::uint64_t expected) noexcept override;
    void layer_progress(std::uint32_t layer, std::uint64_t packed) noexcept override;
    void layer_finished(std::uint32_t layer) noexcept override;
    void warn(rust::Str text) noexcept override;

    /// Whether the user has interrupted Nix.
    bool was_interrupted = false;

private:
    struct Layer {
        std::unique_ptr<nix::Activity> activity;
        std::uint64_t expected = 0;
        std::uint64_t packed = 0;
    };

    void show() noexcept;

    nix::Activity activity;
    std::map<std::uint32_t, Layer> layers;
    std::uint64_t finished = 0;
};

/// Calls the packer. An interrupt goes on as Nix's own; `fail`, which throws, gets the text of any other error.
template<class F, class Fail>
auto call(const Progress & progress, F f, Fail fail) {
    try {
        return f();
    } catch (const rust::Error & error) {
        if (progress.was_interrupted) throw nix::Interrupted("interrupted by the user");
        fail(std::string(error.what()));
        throw;
    }
}

}

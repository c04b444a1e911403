#pragma once

#include <map>
#include <memory>

#include "compat.hh"
#include "nixply/observer.hh"

namespace nixply {

/// Reports the packer's progress to Nix's logger, with one activity for the image and one for each layer, and asks Nix for
/// interrupts by the user.
class Progress : public Observer {
public:
    /// `what` describes the activity, as in "packing image 'web'". Nix shows it at this verbosity and above.
    explicit Progress(const std::string & what, nix::Verbosity level = nix::lvlInfo);
    ~Progress() override;

    bool interrupted() noexcept override;
    void layer_started(std::uint32_t layer, std::uint64_t expected) noexcept override;
    void layer_progress(std::uint32_t layer, std::uint64_t packed) noexcept override;
    void layer_finished(std::uint32_t layer) noexcept override;
    void warn(rust::Str text) noexcept override;

    /// Whether the user interrupted Nix.
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

/// Calls the packer. Rethrows an interrupt as Nix's own exception, and passes the text of any other error to `fail`, which
/// throws.
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

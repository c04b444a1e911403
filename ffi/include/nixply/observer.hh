#pragma once

#include <cstdint>

#include "rust/cxx.h"

namespace nixply {

/// Receives the packer's questions and reports while it works. It is called on the thread that called the packer, and must not
/// throw, because its callers are Rust frames.
class Observer {
public:
    virtual ~Observer() = default;

    /// Whether the user wants to stop. Called about twenty times a second.
    virtual bool interrupted() noexcept = 0;

    /// Work on a layer has begun; `expected` is the sum of its store paths' archive sizes in bytes.
    virtual void layer_started(std::uint32_t layer, std::uint64_t expected) noexcept = 0;

    /// `packed` bytes of the layer's tar stream have been packed so far.
    virtual void layer_progress(std::uint32_t layer, std::uint64_t packed) noexcept = 0;

    /// A layer is done.
    virtual void layer_finished(std::uint32_t layer) noexcept = 0;

    /// A warning for the user.
    virtual void warn(rust::Str text) noexcept = 0;
};

}

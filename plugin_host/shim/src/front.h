// What the three formats share: what hosts are shown, and how outputs reach them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>

#include "effect.h"
#include "identifiers.h"

namespace audiosr {

constexpr char kPluginVersion[] = AUDIOSR_VERSION;

// Nothing is thrown into a host: what fails for want of memory gives `otherwise`.
template <typename Result, typename Function>
Result guarded(Result otherwise, Function function) noexcept {
    try {
        return function();
    } catch (...) {
        return otherwise;
    }
}

// [main] What a host shows for a value; for the state of this moment the whole sentence.
inline void shown_text(const Effect& effect, uint32_t id, double plain, char* out, size_t size) {
    text_of(id, plain, out, size);
    if (id == kState && clamped(id, plain) == effect.get(id))
        guarded(0, [&] { return std::snprintf(out, size, "%s", effect.status_text().c_str()); });
}

// The outputs that changed since they were last told.
class Outputs {
  public:
    Outputs() {
        for (double& value : told_) value = -1;  // nothing that an output can be
    }

    // [audio] `tell(id, plain)` is false if the host took it not; then it is told again.
    template <typename Tell>
    void changed(const Effect& effect, Tell tell) {
        for (uint32_t id = kFirstOutput; id < kNumParameters; ++id) {
            const double plain = effect.get(id);
            double& told = told_[id - kFirstOutput];
            if (plain != told && tell(id, plain)) told = plain;
        }
    }

  private:
    double told_[kNumParameters - kFirstOutput];
};

// The channels of a block from an offset on, for an effect that takes a block in parts.
// [audio] False where the host gave none.
template <typename Sample>
bool channels_at(Sample* const* samples, int64_t offset, int num_channels, Sample** at) {
    if (!samples) return false;
    for (int c = 0; c < num_channels; ++c) {
        if (!samples[c]) return false;
        at[c] = samples[c] + offset;
    }
    return true;
}

}  // namespace audiosr

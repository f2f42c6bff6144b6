// Dry and wet together: each with a gain that glides for 20 ms when it is turned, and is exactly
// itself otherwise.
//
//     y = dry_gain · dry + wet_gain · high        bypass 1, 0 · delta 0, g · else 1, g
#pragma once

#include <cstdint>

namespace audiosr {

class Glide {
  public:
    void snap(double value) {
        from_ = value_ = target_ = static_cast<float>(value);
        left_ = 0;
    }
    // [audio] Nothing happens where it is on its way there already.
    void turn_to(double target, int64_t num_samples) {
        if (static_cast<float>(target) == target_) return;
        target_ = static_cast<float>(target);
        from_ = value_;
        left_ = length_ = num_samples;
    }
    bool is_still() const { return left_ == 0; }
    float value() const { return value_; }
    float next() {
        if (left_ > 0) {
            --left_;
            const float share = static_cast<float>(left_) / static_cast<float>(length_);
            value_ = left_ == 0 ? target_ : target_ + (from_ - target_) * share;
        }
        return value_;
    }

  private:
    float from_ = 0, value_ = 0, target_ = 0;
    int64_t left_ = 0, length_ = 1;
};

// `dry` and `out` may be the same; `high` is nullptr where there is none. [audio]
inline void mix(Glide& dry_gain, Glide& wet_gain, const float* dry, const float* high,
                const float* share, float* out, int64_t size) {
    const bool is_still = dry_gain.is_still() && wet_gain.is_still();
    if (is_still && dry_gain.value() == 1 && (!high || wet_gain.value() == 0)) {
        for (int64_t i = 0; i < size; ++i) out[i] = dry[i];
        return;
    }
    for (int64_t i = 0; i < size; ++i) {
        const float d = dry_gain.next(), w = wet_gain.next();
        const float kept = d == 1 ? dry[i] : d == 0 ? 0.0f : d * dry[i];
        out[i] = high ? kept + w * share[i] * high[i] : kept;
    }
}

}  // namespace audiosr

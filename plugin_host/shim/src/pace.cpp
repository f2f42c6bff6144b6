#include "pace.h"

#include <algorithm>
#include <cmath>

namespace audiosr {
namespace {

constexpr double kFarAhead = 0.75;  // a host that renders ahead of its playback has 0.2 s, say
constexpr double kMostLate = 1.0;
constexpr double kSameFor = 2.0, kSame = 0.25, kStopped = 2.0;

}  // namespace

void Pace::reset(double sample_rate) {
    sample_rate_ = sample_rate;
    started_ = false;
    forget();
}

void Pace::forget() {
    ahead_ = false;
    lead_ = same_for_ = drift_ = 0;
}

bool Pace::is_ahead(int64_t now_ns, int64_t num_samples) {
    const double gone = std::max(0.0, static_cast<double>(now_ns - last_ns_) * 1e-9 - excused_);
    if (started_) {
        lead_ = std::max(-kMostLate, lead_ + last_seconds_ - gone);
        same_for_ += gone;
        drift_ += last_seconds_ - gone;
        if (gone - last_seconds_ > kStopped) forget();
    }
    started_ = true;
    last_ns_ = now_ns;
    last_seconds_ = static_cast<double>(num_samples) / sample_rate_;
    excused_ = 0;

    if (!ahead_ || std::abs(drift_) > kSame) same_for_ = drift_ = 0;
    if (same_for_ >= kSameFor) forget();
    ahead_ = ahead_ || lead_ > kFarAhead;
    return ahead_;
}

}  // namespace audiosr

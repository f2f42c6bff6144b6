// What samples are, whatever they stand for.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace audiosr {

inline bool is_silent(const std::vector<float>& samples) {
    return std::all_of(samples.begin(), samples.end(), [](float x) { return x == 0; });
}

inline bool is_finite(const std::vector<float>& samples) {
    return std::all_of(samples.begin(), samples.end(), [](float x) { return std::isfinite(x); });
}

}  // namespace audiosr

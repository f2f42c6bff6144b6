// The two plugins of one binary. They differ in latency, for that can never change while a plugin
// is loaded, and a host asks for it before it says anything else.
#pragma once

#include <cstdint>

namespace audiosr {

struct Profile {
    const char* name;      // "AudioSR Bridge", "AudioSR Bridge Live"
    const char* id;        // "bridge", "live": part of the formats' identifiers
    double latency_seconds;
    bool live;             // `lite` in small steps, nothing cached
};

// 5.12 s hold a chunk of every model with all its context (lite 2.3 s, AudioSR 4.96 s).
constexpr Profile kBridge = {"AudioSR Bridge", "bridge", 5.12, false};
constexpr Profile kLive = {"AudioSR Bridge Live", "live", 0.1, true};

constexpr int64_t latency_samples(const Profile& profile, double sample_rate) {
    return static_cast<int64_t>(profile.latency_seconds * sample_rate);
}

constexpr int kMaxChannels = 2;
constexpr double kMinRate = 44100, kMaxRate = 192000;

}  // namespace audiosr

// The effect: what every format shows its host, and nothing of any format.
//
//     in ──┬── delay line, L ─────────────────── dry ──┬── + ── out
//          │                                           │
//          └── Feed ──▶ Renderer, a thread of ──▶ Wet ─┘ × mix × gain
//                       its own; socket, disk
//
// Time is counted in samples since `activate`. What comes out at time t is what went in at t − L,
// in every mode and always. The thread of the host's audio touches nothing but the delay line and
// the two queues; only when it renders offline does it wait, for `Wet` to get as far as t − L.
//
// Threads, as tagged below: [main] whatever the host uses for control, one call at a time;
// [audio] the one that calls `process`; [any].
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "parameters.h"
#include "profile.h"

namespace audiosr {

// Where the host's song is at the first sample of a block; `known` only while it plays.
struct Transport {
    bool known = false;
    int64_t sample = 0;
};

class Effect {
  public:
    explicit Effect(const Profile& profile);  // [main] opens nothing, starts nothing
    ~Effect();                                // [main]

    int64_t latency(double sample_rate) const { return latency_samples(profile_, sample_rate); }

    // [main] Allocates; false where rate or channels cannot be.
    bool activate(double sample_rate, int num_channels);
    void deactivate();  // [main] ends the thread; a `process` that waits comes back at once
    void reset();       // [main] or [audio], never beside `process`: silence in the delay line

    void set(uint32_t id, double plain);  // [any] clamps
    double get(uint32_t id) const;        // [any]
    void set_offline(bool offline);       // [any] the host has said so

    // [audio] In place or not; n of 1 to 65536, larger ones too. Before `activate`: silence.
    void process(const float* const* in, float* const* out, int64_t n, const Transport& transport);

    // [audio] Samples of the output to come whose generated band is there, or known not to come.
    int64_t ahead() const;

    // [main] The state as text, and back. False changes nothing: it is no state of ours.
    std::string save() const;
    bool load(const char* text, size_t size);

    // [main] One sentence about what the plugin is doing, or why it is not.
    std::string status_text() const;

  private:
    struct Inside;
    const Profile profile_;
    std::unique_ptr<Inside> inside_;
};

}  // namespace audiosr

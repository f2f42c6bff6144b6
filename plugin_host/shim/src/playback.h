// The reading end of `Wet`: for each moment of the output the generated band and how much of it is
// heard, and the counts of what became of the chunks. All of [audio].
//
//     wet     1 ─────────╲               ╱─────    in real time it fades for 5 ms before a hole and
//     hole               0 ─────────────            after it; where somebody waits it never does
#pragma once

#include <atomic>
#include <cstdint>

#include "queues.h"

namespace audiosr {

// A run of output samples of one kind.
struct Run {
    enum Kind { wet, failed, late, nothing } kind = nothing;  // nothing: resolved, and silent
    int64_t size = 0;
    bool has_samples = false;
};

class Playback {
  public:
    explicit Playback(Wet& wet) : wet_(wet) {}

    void prepare(int num_channels, int64_t fade_samples);  // [main]
    void reset(int64_t from);  // what is before this time was dropped

    // The next samples, at most so many: `high` [channel] and `share` get as many as the run has.
    // `counts`: somebody listens, so that what is missing is missed.
    Run read(int64_t time, int64_t at_most, bool waits, bool counts, float* const* high,
             float* share);
    // What is before this time will not be read.
    void discard_before(int64_t time);

    uint32_t count(Found found) const {  // [any]
        return counts_[static_cast<int>(found)].load(std::memory_order_relaxed);
    }

  private:
    void note(const Piece& piece, Found heard);
    int64_t wet_ahead(int64_t time, int64_t enough) const;
    void fade(int64_t ahead, int64_t size, float* share);

    Wet& wet_;
    int num_channels_ = 0;
    int64_t from_ = 0;
    int64_t fade_ = 1, heard_ = 1;  // share = heard / fade
    int64_t missed_from_ = 0, missed_until_ = 0;
    uint32_t noted_chunk_ = 0;
    Found noted_as_ = Found::wet;
    std::atomic<uint32_t> counts_[3] = {};
};

}  // namespace audiosr

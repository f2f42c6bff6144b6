// The input that has come, as long as somebody may need it: segments of the song, each with its
// own samples, and silence wherever one of them is asked for what it does not hold.
//
//     time     |----------- 1 -----------|lost|------- 2 -------▶     since `activate`, no gaps
//     place    9000…                            4000…                 within a segment
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "queues.h"

namespace audiosr {

constexpr int64_t kNever = INT64_MAX;

struct Segment {
    uint32_t id = 0;
    int64_t time = 0, place = 0;  // of its first sample
    bool fresh = false;           // see Block
    bool lost = false;            // there was no room for it: nothing of it is here
    int64_t first_sound = kNever;  // time of the first sample that is not zero
    int64_t kept_from = 0;         // time of samples[c][0]
    std::vector<float> samples[kMaxChannels];

    int64_t place_of(int64_t t) const { return place + (t - time); }
    int64_t time_of(int64_t p) const { return time + (p - place); }
};

class History {
  public:
    explicit History(int num_channels) : num_channels_(num_channels) {}

    bool append(Feed& feed);  // what has come; false: nothing
    int64_t end() const { return end_; }
    bool is_empty() const { return segments_.empty(); }
    const Block& last() const { return last_; }
    // Time of the first sound since the last reset.
    int64_t first_sound() const { return first_sound_; }
    int64_t fresh_from() const { return fresh_from_; }  // nothing before is wanted any more

    const Segment& segment_at(int64_t time) const;      // `begin` of the kept <= time <= end()
    const Segment* segment(uint32_t id) const;          // nullptr if it is forgotten
    int64_t end_of(const Segment& segment) const;       // kNever while it goes on
    const Render& render_at(int64_t time) const;

    // Samples at these places, planar.
    void copy(const Segment& segment, int64_t from, int64_t to, std::vector<float>& planar) const;

    void forget_before(int64_t time);

  private:
    struct Turn {  // a knob was turned
        int64_t time;
        Render render;
    };
    void begin_segment(const Block& block);

    const int num_channels_;
    std::deque<Segment> segments_;
    std::deque<Turn> turns_;
    Block last_;
    int64_t end_ = 0, first_sound_ = kNever, fresh_from_ = 0;
};

}  // namespace audiosr

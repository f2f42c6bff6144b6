// Which place of the stream's own clock a block has.
//
//     the host plays and says where      its song position
//     else                               the place before, counted on
//
// All plus an hour, so that a song that begins before zero has no negative places. Where the song
// jumps a segment ends; who jumps in every block does not know, and is not listened to any more,
// nor is who says the same place twice (Audacity: 0 in every block).
#pragma once

#include <cstdint>

#include "effect.h"

namespace audiosr {

class Song {
  public:
    void activate(double sample_rate) {  // [main]
        first_place_ = static_cast<int64_t>(3600 * sample_rate);
        num_jumps_ = 0;
        segment_ = 0;
        begin();
    }

    // [main] or [audio] After a reset, or where input was lost: nothing before belongs to it.
    void begin() {
        place_ = first_place_;
        new_segment();
    }
    void new_segment() {
        ++segment_;
        fresh_ = true;
    }

    // [audio] At the beginning of a block.
    void follow(const Transport& transport) {
        if (!transport.known || num_jumps_ >= kMostJumps) return;
        if (transport.sample < -first_place_ || transport.sample > kLastPlace) return;
        const int64_t said = transport.sample + first_place_;
        if (!fresh_ && said == said_) {
            num_jumps_ = kMostJumps;
            return;
        }
        said_ = said;
        const int64_t off = said - place_;
        const bool continues = !fresh_ && -kTolerance <= off && off <= kTolerance;
        if (!continues) {
            place_ = said;
            if (fresh_) return;
            ++num_jumps_;
            ++segment_;
        } else {
            num_jumps_ = 0;
        }
    }
    void advance(int64_t num_samples) {
        place_ += num_samples;
        fresh_ = false;
    }

    int64_t place() const { return place_; }
    uint32_t segment() const { return segment_; }

  private:
    static constexpr int64_t kTolerance = 2;  // hosts round from seconds or beats
    static constexpr int kMostJumps = 8;      // in blocks that follow one another
    static constexpr int64_t kLastPlace = int64_t{1} << 52;

    int64_t first_place_ = 0, place_ = 0, said_ = 0;
    uint32_t segment_ = 0;
    int num_jumps_ = 0;
    bool fresh_ = true;  // nothing of the segment has come yet: it may begin anywhere
};

}  // namespace audiosr

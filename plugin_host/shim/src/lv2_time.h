// Where the song is, as LV2 hosts tell it: atoms in a sequence, each at a sample of the block.
//
//     Sequence | Event time:Position { time:frame, time:speed, … } | Event … |
//              size ───────────────────────────────────────────────────────────┤
#pragma once

#include "effect.h"
#include "lv2_abi.h"

namespace audiosr::lv2 {

struct TimeUrids {
    Urid sequence = 0, object = 0, blank = 0, long_number = 0, int_number = 0, float_number = 0,
         double_number = 0, position = 0, frame = 0, speed = 0;

    TimeUrids() = default;
    explicit TimeUrids(const Map& map);
};

// [audio] A walk over the positions in a sequence, never beyond its size.
class Positions {
  public:
    Positions(const TimeUrids& urids, const void* sequence);

    // The next one: at which sample of the block, and what it says.
    bool next(int64_t& offset, Transport& transport);

  private:
    bool read_position(const char* at, const char* end, Transport& transport) const;

    const TimeUrids& urids_;
    const char *at_ = nullptr, *end_ = nullptr;
};

}  // namespace audiosr::lv2

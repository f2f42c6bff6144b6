// Ardour 7.3 says of a block not where its input lies, but where its output will. Made the place of
// the input, as in a bounce and in other hosts, so that all of them find one another's renders:
//
//     playback, export   said = place of the input − the plugin's own latency
//     bounce             said = place of the input; blocks of up to 8192, announced before it
//     LV2, before zero   speed 0, though it rolls; a song that stands is never before zero
//
// All of it measured. Whose blocks always have 8192 samples cannot be told from a bounce: there
// playback has other places, and so another noise.
#pragma once

#include "effect.h"

namespace audiosr {

class Ardour {
  public:
    static constexpr char kName[] = "Ardour";  // in VST3
    static constexpr char kLv2Feature[] = "http://ardour.org/lv2/midnam#update";

    void set_host(bool is_ardour) { is_host_ = is_ardour; }                    // [main]
    void announce_blocks(int64_t size) { is_bounce_ = size == kBounceBlock; }  // [main]

    // [audio] Where the input is, by what was said; as it was said where the host is another.
    Transport place_of_input(Transport said, int64_t latency) const {
        if (!is_host_) return said;
        if (said.sample < 0) said.known = true;
        if (!is_bounce_) said.sample += latency;
        return said;
    }

  private:
    static constexpr int64_t kBounceBlock = 8192;

    bool is_host_ = false, is_bounce_ = false;
};

}  // namespace audiosr

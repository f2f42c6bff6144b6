// Whether a host renders offline without saying so. It then hands over audio faster than time goes
// by; a host that plays never gets far ahead of the clock, whatever its blocks and however it
// catches up.
//
//     lead = audio handed over − wall time gone by      (what we made the host wait is no time)
//
//     > 0.75 s                              ahead: it renders
//     2 s in which both were equal          it plays again
//     2 s without a block                   it has stopped: begin anew
//
// A host that was late may catch up by as much: the lead falls to −1 s and no lower.
#pragma once

#include <cstdint>

namespace audiosr {

class Pace {
  public:
    void reset(double sample_rate);

    // At the beginning of a block: whether the host runs ahead. `now_ns` of any steady clock.
    bool is_ahead(int64_t now_ns, int64_t num_samples);
    void excuse(int64_t ns) { excused_ += static_cast<double>(ns) * 1e-9; }  // we were waiting

  private:
    void forget();

    double sample_rate_ = 48000;
    bool started_ = false, ahead_ = false;
    int64_t last_ns_ = 0;
    double last_seconds_ = 0;  // of audio, in the block before
    double excused_ = 0, lead_ = 0;
    double same_for_ = 0, drift_ = 0;  // seconds in which the lead has not changed; how far it has
};

}  // namespace audiosr

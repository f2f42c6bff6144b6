// A daemon and a store in memory, linked in place of the real ones: exact, quick, and as unreliable
// as a test wants them.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "link.h"

namespace fake {

struct Daemon {
    std::atomic<bool> is_there{true};
    std::atomic<bool> can_be_started{false};
    std::atomic<int64_t> stride{4800}, past{1000}, first_end{9600};
    std::atomic<int> chunk_ms{0};      // time that a chunk takes
    std::atomic<int> lose_at{-1};      // the so-manyth chunk from now on is lost with the daemon
    std::atomic<int> refuse_at{-1};    // likewise: an error that is final
    std::atomic<bool> refuses_all{false};
    std::atomic<bool> is_mute{false};  // takes everything and says nothing
    std::atomic<int64_t> room{1 << 20};
    std::atomic<int64_t> most_at_once{1 << 20};  // samples in a partial
    std::atomic<const char*> code{"E_FAILED"};   // of the refusal
    std::atomic<char> model_sha256{'a'};  // of 64 equal digits

    std::atomic<int> num_opened{0}, num_submitted{0}, num_chunks{0}, num_started{0};
    std::atomic<int> num_found{0}, num_kept{0}, num_logged{0};
};
extern Daemon daemon;
void reset();       // as above, and nothing stored
void forget_all();  // nothing stored

// The high band of a whole segment: [channel][sample] with silence around it, whose first sample
// has this place. What a chunk depends on, the formula depends on.
float high_at(const float* x, int64_t size, int64_t place, int64_t first_place, int64_t ahead,
              int64_t back, uint32_t seed);

}  // namespace fake

#define CHECK(what)                                                                    \
    do {                                                                               \
        if (!(what)) {                                                                 \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);    \
            std::abort();                                                              \
        }                                                                              \
    } while (false)

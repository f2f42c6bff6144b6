// What the thread of the host's audio and our own say to one another: two queues, each with one
// writer and one reader, no lock, no allocation after `prepare`.
//
//     Feed   audio → renderer   blocks of input, each with its place and the knobs of its moment
//     Wet    renderer → audio   pieces of generated band, in order of time, with gaps
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "profile.h"

namespace audiosr {

// What changes the generated band, and so what a chunk is named by.
struct Render {
    double ceiling_hz = 24000, cutoff_hz = 0;
    uint32_t seed = 0, model = 0;
    bool operator==(const Render& other) const {
        return ceiling_hz == other.ceiling_hz && cutoff_hz == other.cutoff_hz &&
               seed == other.seed && model == other.model;
    }
};

// One block of input as it went by.
struct Block {
    int64_t time = 0;    // of its first sample, since `activate`
    int64_t place = 0;   // the same on the stream's own clock, see `segment`
    uint32_t segment = 0;  // rises where the song jumped: nothing before belongs to it
    int64_t size = 0;
    bool offline = false;  // somebody waits for it
    Render render;
};

enum class Found : uint8_t { wet, failed };

// A stretch of the generated band, or the word that there is none and will be none.
struct Piece {
    int64_t time = 0;  // since `activate`
    int64_t size = 0;
    Found found = Found::wet;
    bool ends_chunk = false;  // for the counts
};

class Feed;
class Wet;

}  // namespace audiosr

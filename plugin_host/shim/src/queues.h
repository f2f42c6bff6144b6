// What the thread of the host's audio and our own say to one another: two queues, each with one
// writer and one reader, no lock, no allocation after `prepare`.
//
//     Feed   audio → renderer   blocks of input, each with its place and the knobs of its moment
//     Wet    renderer → audio   pieces of generated band, in order of time, without gaps
//
// Only who renders offline waits, and only by the bell of `bell.h`.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "profile.h"

namespace audiosr {

// What changes the generated band, and so what a chunk is named by.
struct Render {
    double ceiling_hz = 24000, cutoff_hz = 0;
    uint32_t seed = 0, model = 0;
    uint32_t preset = 0;  // which of `Presets`: the session's other settings
    bool operator==(const Render& other) const {
        return ceiling_hz == other.ceiling_hz && cutoff_hz == other.cutoff_hz &&
               seed == other.seed && model == other.model && preset == other.preset;
    }
};

// One block of input as it went by.
struct Block {
    int64_t time = 0;      // of its first sample, since `activate`
    int64_t place = 0;     // the same on the stream's own clock, see `segment`
    uint32_t segment = 0;  // rises where the song jumped: nothing before belongs to it
    int64_t size = 0;
    bool offline = false;  // somebody waits for it
    bool wanted = true;    // false: what comes out beside it is bypassed, and nobody will look
    bool fresh = false;    // of a segment that began with a reset: what was before is dropped
    Render render;

    bool continues(const Block& before) const {
        return time == before.time + before.size && segment == before.segment &&
               offline == before.offline && wanted == before.wanted && fresh == before.fresh &&
               render == before.render;
    }
};

enum class Found : uint8_t { wet, failed, late };  // late: nobody waited, and it was given up

// A stretch of the generated band, or the word that there is none and will be none.
struct Piece {
    int64_t time = 0;  // since `activate`
    int64_t size = 0;
    Found found = Found::wet;
    uint32_t chunk = 0;       // rises from chunk to chunk, for the counts; 0: silence, none
    bool has_samples = false;  // wet without: nothing is added

    int64_t end() const { return time + size; }
};

// Values from one thread to another. Positions only rise; a power of two makes them places.
template <typename T>
class Ring {
  public:
    void prepare(size_t at_least) {  // [main], while nobody reads or writes
        size_t size = 1;
        while (size < at_least) size *= 2;
        values_.assign(size, T());
        written_.store(0, std::memory_order_relaxed);
        taken_.store(0, std::memory_order_relaxed);
    }

    size_t room() const {  // [writer]
        return values_.size() - static_cast<size_t>(
            written_.load(std::memory_order_relaxed) - taken_.load(std::memory_order_acquire));
    }
    T& slot(size_t ahead) {  // [writer] ahead < room()
        return at(written_.load(std::memory_order_relaxed) + ahead);
    }
    void publish(size_t count) {  // [writer]
        written_.store(written_.load(std::memory_order_relaxed) + count,
                       std::memory_order_release);
    }
    uint64_t written() const { return written_.load(std::memory_order_acquire); }

    size_t filled() const {  // [reader]
        return static_cast<size_t>(written_.load(std::memory_order_acquire) -
                                   taken_.load(std::memory_order_relaxed));
    }
    const T& peek(size_t ahead) const {  // [reader] ahead < filled()
        return values_[mask(taken_.load(std::memory_order_relaxed) + ahead)];
    }
    void take(size_t count) {  // [reader]
        taken_.store(taken_.load(std::memory_order_relaxed) + count, std::memory_order_release);
    }
    uint64_t taken() const { return taken_.load(std::memory_order_relaxed); }  // [reader]

    // Planar copies across the ring's end; the positions count samples of one channel.
    void copy_in(size_t ahead, const T* from, size_t count);
    void copy_out(size_t ahead, T* to, size_t count) const;

  private:
    size_t mask(uint64_t position) const {
        return static_cast<size_t>(position) & (values_.size() - 1);
    }
    T& at(uint64_t position) { return values_[mask(position)]; }

    std::vector<T> values_;
    alignas(64) std::atomic<uint64_t> written_{0};
    alignas(64) std::atomic<uint64_t> taken_{0};
};

class Feed {
  public:
    void prepare(int num_channels, int64_t capacity);  // [main]

    // [audio] A whole block or nothing: false where there is no room for it.
    bool push(const Block& block, const float* const* samples);
    bool has_room(int64_t size) const;  // [audio]

    // [renderer] What has come, as one block as long as nothing of it changes. `samples` gets it
    // [channel][sample] at its end. False: nothing has come.
    bool take(Block& block, std::vector<float>* samples);
    bool is_empty() const { return samples_[num_channels_ - 1].filled() == 0; }  // [renderer]

  private:
    // Most blocks go on from the one before: only what changes is written down.
    struct Change {
        uint64_t position = 0;  // in the rings of samples
        Block block;
    };

    int num_channels_ = 0;
    Ring<float> samples_[kMaxChannels];
    Ring<Change> changes_;
    Block pushed_, taken_;  // the last one of each side
    bool any_pushed_ = false;
};

class Wet {
  public:
    void prepare(int num_channels, int64_t capacity);  // [main]

    // [renderer] The next piece in time; `samples` where it has some. False: no room.
    bool push(const Piece& piece, const float* const* samples);

    // [any] What is before this time is known: wet, or not to be had.
    int64_t resolved_until() const { return resolved_until_.load(std::memory_order_acquire); }

    // [audio] The pieces that are there, first the earliest.
    size_t num_pieces() const { return pieces_.filled(); }
    const Piece& piece(size_t ahead) const { return pieces_.peek(ahead); }
    void pop();
    // Samples of the first piece, from its sample `offset` on.
    void read(int channel, int64_t offset, float* to, int64_t size) const;

  private:
    int num_channels_ = 0;
    Ring<float> samples_[kMaxChannels];
    Ring<Piece> pieces_;
    std::atomic<int64_t> resolved_until_{0};
};

}  // namespace audiosr

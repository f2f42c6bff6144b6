// Two threads and the queues between them: what goes in comes out, once, in order, whole.
#include "queues.h"

#include <pthread.h>
#include <sched.h>

#include "bell.h"
#include "fakes.h"

using namespace audiosr;

namespace {

constexpr int64_t kTotal = 400000;

uint32_t step(uint32_t& state) { return state = state * 1664525u + 1013904223u; }
float sample_at(int64_t time, int channel) {
    return static_cast<float>((time * 2 + channel) % 65521);
}

Feed feed;
Wet wet;
Bell bell;

// Blocks of odd sizes, with knobs that change at odd times; some find no room and are lost.
void* write_feed(void*) {
    uint32_t random = 1;
    std::vector<float> samples[2];
    Block block;
    while (block.time < kTotal) {
        block.size = 1 + step(random) / 65536 % 700;
        if (step(random) / 65536 % 50 == 0) ++block.render.seed;
        for (int c = 0; c < 2; ++c) {
            samples[c].resize(static_cast<size_t>(block.size));
            for (int64_t i = 0; i < block.size; ++i)
                samples[c][static_cast<size_t>(i)] = sample_at(block.time + i, c);
        }
        block.place = block.time + 1000 * block.render.seed;
        block.segment = block.render.seed;
        const float* channels[] = {samples[0].data(), samples[1].data()};
        while (!feed.push(block, channels)) ::sched_yield();
        bell.ring();
        block.time += block.size;
    }
    return nullptr;
}

void read_feed() {
    int64_t time = 0;
    Block block;
    while (time < kTotal) {
        std::vector<float> samples[2];
        if (!feed.take(block, samples)) {
            CHECK(bell.wait(5000, [] { return !feed.is_empty(); }));
            continue;
        }
        CHECK(block.time == time && block.size > 0);
        CHECK(block.place == time + 1000 * block.render.seed);
        CHECK(block.segment == block.render.seed);
        for (int c = 0; c < 2; ++c) {
            CHECK(samples[c].size() == static_cast<size_t>(block.size));
            for (int64_t i = 0; i < block.size; ++i)
                CHECK(samples[c][static_cast<size_t>(i)] == sample_at(time + i, c));
        }
        time += block.size;
    }
    CHECK(feed.is_empty());
}

void* write_wet(void*) {
    uint32_t random = 7;
    std::vector<float> samples[2];
    int64_t time = 0;
    while (time < kTotal) {
        Piece piece;
        piece.time = time;
        piece.size = 1 + step(random) / 65536 % 900;
        piece.chunk = static_cast<uint32_t>(piece.size);
        piece.has_samples = piece.size % 3 != 0;
        piece.found = piece.has_samples ? Found::wet : Found::failed;
        for (int c = 0; c < 2; ++c) {
            samples[c].resize(static_cast<size_t>(piece.size));
            for (int64_t i = 0; i < piece.size; ++i)
                samples[c][static_cast<size_t>(i)] = sample_at(time + i, c);
        }
        const float* channels[] = {samples[0].data(), samples[1].data()};
        while (!wet.push(piece, channels)) ::sched_yield();
        bell.ring();
        time += piece.size;
    }
    return nullptr;
}

void read_wet() {
    uint32_t random = 3;
    int64_t time = 0;
    while (time < kTotal) {
        if (wet.num_pieces() == 0) {
            CHECK(bell.wait(5000, [&] { return wet.resolved_until() > time; }));
            continue;
        }
        const Piece piece = wet.piece(0);
        CHECK(piece.time == time && piece.chunk == static_cast<uint32_t>(piece.size));
        CHECK(wet.resolved_until() >= piece.end());
        for (int64_t done = 0; piece.has_samples && done < piece.size;) {
            float some[100];
            const int64_t n = std::min<int64_t>(1 + step(random) / 65536 % 100, piece.size - done);
            for (int c = 0; c < 2; ++c) {
                wet.read(c, done, some, n);
                for (int64_t i = 0; i < n; ++i) CHECK(some[i] == sample_at(time + done + i, c));
            }
            done += n;
        }
        wet.pop();
        time = piece.end();
    }
}

void with(void* (*write)(void*), void (*read)()) {
    pthread_t thread;
    CHECK(::pthread_create(&thread, nullptr, write, nullptr) == 0);
    read();
    CHECK(::pthread_join(thread, nullptr) == 0);
}

// Where there is no room nothing is taken, and what follows is known by its time.
void no_room() {
    feed.prepare(1, 1000);  // rounded up to 1024
    const std::vector<float> samples(600, 1.0f);
    const float* channel = samples.data();
    Block block;
    block.size = 600;
    CHECK(feed.push(block, &channel));
    block.time = 600;
    CHECK(!feed.push(block, &channel));
    block.time = 1200;
    block.size = 100;
    CHECK(feed.push(block, &channel));
    std::vector<float> came;
    CHECK(feed.take(block, &came) && block.time == 0 && block.size == 600);
    CHECK(feed.take(block, &came) && block.time == 1200 && block.size == 100);
    CHECK(!feed.take(block, &came) && came.size() == 700);
}

}  // namespace

int main() {
    no_room();
    for (int i = 0; i < 3; ++i) {
        feed.prepare(2, 3000);
        with(write_feed, read_feed);
        wet.prepare(2, 3000);
        with(write_wet, read_wet);
    }
    return 0;
}

// Hosts by the clock: which of them `Pace` takes for one that renders. Time is counted, not waited
// for.
#include "pace.h"

#include <cmath>
#include <cstdint>

#include "fakes.h"

using audiosr::Pace;

namespace {

constexpr double kRate = 48000;

struct Host {
    Pace pace;
    double now = 100;  // seconds
    bool was_ahead = false;
    uint32_t random = 1;

    Host() { pace.reset(kRate); }
    double chance() {  // -1 .. 1
        random = random * 1664525u + 1013904223u;
        return static_cast<double>(random) / 2147483648.0 - 1;
    }
    bool block(int64_t n) {
        const bool ahead = pace.is_ahead(static_cast<int64_t>(now * 1e9), n);
        was_ahead = was_ahead || ahead;
        return ahead;
    }
    void wait(double seconds) {  // as the effect does
        now += seconds;
        pace.excuse(static_cast<int64_t>(seconds * 1e9));
    }
    // Plays for so long, block after block; a call comes too late or too early by `jitter`.
    void play(double seconds, int64_t n, double jitter = 0) {
        const double begin = now;
        for (int64_t i = 0; static_cast<double>(i) * n / kRate < seconds; ++i) {
            now = std::fmax(now, begin + static_cast<double>(i) * n / kRate + jitter * chance());
            block(n);
        }
    }
    // As fast as it can, so much audio in so much time, each block waiting for a daemon.
    bool render(double seconds, int64_t n, double speed, double wait_each = 0) {
        bool ahead = false;
        for (int64_t i = 0; static_cast<double>(i) * n / kRate < seconds; ++i) {
            ahead = block(n);
            if (ahead) wait(wait_each);
            now += n / kRate / speed;
        }
        return ahead;
    }
};

void real_time() {
    for (const int64_t n : {64, 128, 512, 1024, 4096}) {
        Host host;
        host.play(60, n, 0.003);
        CHECK(!host.was_ahead);
    }
}

void anticipation() {  // 0.2 s at once, then a rest
    Host host;
    for (int i = 0; i < 300; ++i) {
        for (int64_t done = 0; done < 9600; done += 480) host.block(480);
        host.now += 0.2;
    }
    CHECK(!host.was_ahead);
}

void stalls() {  // nothing for a while, then what was missed, as fast as it goes
    for (const double stall : {0.05, 0.3, 0.9}) {
        Host host;
        for (int i = 0; i < 20; ++i) {
            host.play(3, 256, 0.002);
            host.now += stall;
            host.render(stall, 256, 50);
        }
        CHECK(!host.was_ahead);
    }
}

void bounces() {
    struct Case {
        int64_t block;
        double speed, wait;
    };
    for (const Case& one : {Case{8192, 200, 0}, Case{8192, 50, 1.5}, Case{44100, 30, 0.02},
                            Case{1, 3, 0}, Case{512, 2, 0.1}, Case{1024, 1.5, 0}}) {
        Host host;
        CHECK(host.render(10, one.block, one.speed, one.wait));
        for (int i = 0; i < 20; ++i) CHECK(host.render(2, one.block, one.speed, one.wait));
    }
    Host stalling;  // a bounce that stops for a second now and then is still one
    CHECK(stalling.render(5, 8192, 100, 0.5));
    for (int i = 0; i < 5; ++i) {
        stalling.now += 1;
        CHECK(stalling.render(0.2, 8192, 100, 0.5));
        CHECK(stalling.render(20, 8192, 100, 0.5));
    }
}

void found_in_time() {  // before 3 s of audio went by, also after playing
    Host host;
    host.play(10, 512, 0.002);
    double audio = 0;
    while (!host.block(8192)) {
        host.now += 8192 / kRate / 100;
        audio += 8192 / kRate;
    }
    CHECK(audio < 3);
}

void back_to_playing() {
    Host host;
    host.render(60, 8192, 100, 0.3);
    CHECK(host.was_ahead);
    host.play(3, 512, 0.002);  // it goes on without a gap: 2 s are enough to know
    host.was_ahead = false;
    host.play(20, 512, 0.002);
    CHECK(!host.was_ahead);

    host.render(60, 8192, 100, 0.3);
    host.now += 5;  // it stopped, and plays
    host.was_ahead = false;
    host.play(20, 512, 0.002);
    CHECK(!host.was_ahead);
}

}  // namespace

int main() {
    real_time();
    anticipation();
    stalls();
    bounces();
    found_in_time();
    back_to_playing();
    return 0;
}

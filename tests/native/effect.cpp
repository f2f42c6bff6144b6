// Laws of the effect, over many cases, with the daemon and the store of fakes.h. The argument is
// the name of a law.
#include "effect.h"

#include <pthread.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "fakes.h"
#include "json.h"

using namespace audiosr;
using fake::daemon;

namespace {

using Sound = std::vector<std::vector<float>>;
constexpr double kRate = 48000;

// A linear congruential generator: the same cases every time.
struct Chance {
    uint64_t state;
    explicit Chance(uint64_t seed) : state(seed * 2654435761u + 1) {}
    uint32_t next() {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>(state >> 33);
    }
    int64_t between(int64_t low, int64_t high) {
        return low + static_cast<int64_t>(next()) % (high - low + 1);
    }
    float sample() { return static_cast<float>(next()) / 1073741824.0f - 1; }
};

Sound noise(int channels, int64_t size, uint64_t seed) {
    Chance chance(seed);
    Sound sound(static_cast<size_t>(channels), std::vector<float>(static_cast<size_t>(size)));
    for (auto& x : sound)
        for (float& sample : x) sample = chance.sample();
    return sound;
}

Sound part(const Sound& x, int64_t from, int64_t until) {
    Sound y;
    for (const auto& channel : x) y.emplace_back(channel.begin() + from, channel.begin() + until);
    return y;
}

// What the fake daemon adds to a segment that begins at this place.
Sound high_of(const Sound& x, int64_t first_place, uint32_t seed) {
    Sound y = x;
    for (size_t c = 0; c < x.size(); ++c)
        for (size_t i = 0; i < x[c].size(); ++i)
            y[c][i] = fake::high_at(x[c].data(), static_cast<int64_t>(x[c].size()),
                                    first_place + static_cast<int64_t>(i), first_place,
                                    daemon.first_end - daemon.stride, daemon.past, seed);
    return y;
}

Sound sum(const Sound& x, const Sound& high) {
    Sound y = x;
    for (size_t c = 0; c < x.size(); ++c)
        for (size_t i = 0; i < x[c].size(); ++i) y[c][i] += high[c][i];
    return y;
}

bool same(const Sound& a, const Sound& b) {
    for (size_t c = 0; c < a.size(); ++c)
        if (a[c].size() != b[c].size() ||
            std::memcmp(a[c].data(), b[c].data(), a[c].size() * sizeof(float)) != 0)
            return false;
    return a.size() == b.size();
}

int64_t first_place(double rate = kRate) { return static_cast<int64_t>(3600 * rate); }

// Plays a sound in blocks of what `block` says, and more of silence for the tail; the latency is
// taken off. `song`: where the transport is at the first sample, or -1 for none.
template <typename BlockSize>
Sound play_blocks(Effect& effect, const Sound& x, double rate, BlockSize block,
                  int64_t song = -1) {
    const int64_t latency = effect.latency(rate), size = static_cast<int64_t>(x[0].size());
    Sound buffer = x;
    for (auto& channel : buffer) channel.resize(static_cast<size_t>(size + latency), 0.0f);
    for (int64_t done = 0; done < size + latency;) {
        const int64_t n = std::min<int64_t>(block(), size + latency - done);
        float* channels[kMaxChannels] = {};
        for (size_t c = 0; c < buffer.size(); ++c) channels[c] = buffer[c].data() + done;
        effect.process(channels, channels, n, {song >= 0, song + done});
        done += n;
    }
    return part(buffer, latency, size + latency);
}

Sound play(Effect& effect, const Sound& x, int64_t block = 1000, int64_t song = -1) {
    return play_blocks(effect, x, kRate, [=] { return block; }, song);
}

void prepare(Effect& effect, int channels, double rate = kRate, RenderMode mode = kWait) {
    effect.set(kRenderMode, mode);
    CHECK(effect.activate(rate, channels));
}

template <typename Condition>
bool wait_until(Condition there, Effect& effect) {
    for (int i = 0; i < 5000; ++i) {
        if (there(effect)) return true;
        const struct timespec time = {0, 1000000};
        ::nanosleep(&time, nullptr);
    }
    return false;
}

// ---- laws

void any_blocks() {
    const double rates[] = {44100, 48000, 96000, 192000, 88200};
    for (int i = 0; i < 20; ++i) {
        fake::reset();
        Chance chance(static_cast<uint64_t>(i));
        const double rate = rates[i % 5];
        const int channels = 1 + i % 2;
        daemon.stride = chance.between(1000, 20000);
        daemon.past = chance.between(0, 30000);
        daemon.first_end = daemon.stride + chance.between(0, 40000);
        daemon.most_at_once = chance.between(100, 30000);
        daemon.room = chance.between(500, 60000);
        const uint32_t seed = static_cast<uint32_t>(chance.between(0, 60000));
        const int64_t song = i % 3 == 0 ? -1 : chance.between(0, 1000000);
        const int64_t most = i % 4 == 0 ? 70000 : i % 4 == 1 ? 64 : i % 4 == 2 ? 8192 : 700;
        const Sound x = noise(channels, chance.between(1, 150000), static_cast<uint64_t>(i) + 7);
        Effect effect(kBridge);
        effect.set(kSeed, seed);
        prepare(effect, channels, rate);
        const Sound y = play_blocks(effect, x, rate, [&] { return chance.between(1, most); }, song);
        CHECK(same(y, sum(x, high_of(x, first_place(rate) + std::max<int64_t>(song, 0), seed))));
        CHECK(effect.get(kChunksFailed) == 0 && effect.get(kChunksDry) == 0);
        CHECK(effect.get(kChunksWet) > 0);
        CHECK(effect.get(kState) == kWet);
    }
    Effect single(kBridge);  // one sample a block
    fake::reset();
    prepare(single, 1);
    const Sound x = noise(1, 30000, 3);
    CHECK(same(play(single, x, 1), sum(x, high_of(x, first_place(), 0))));
}

// Playback that begins elsewhere has the same bits where the input of a chunk is the same.
void any_start() {
    fake::reset();
    const Sound x = noise(2, 200000, 1);
    Effect effect(kBridge);
    prepare(effect, 2);
    const Sound whole = play(effect, x, 4096, 0);
    for (const int64_t start : {1, 4799, 4800, 4801, 50000, 123457}) {
        effect.deactivate();
        CHECK(effect.activate(kRate, 2));
        const Sound later = play(effect, part(x, start, 200000), 1777, start);
        const int64_t same_from = start + daemon.past + daemon.stride;
        CHECK(same(part(later, same_from - start, 200000 - start),
                   part(whole, same_from, 200000)));
        CHECK(same(later, sum(part(x, start, 200000),
                              high_of(part(x, start, 200000), first_place() + start, 0))));
    }
}

void second_pass_needs_no_daemon() {
    fake::reset();
    const Sound x = noise(2, 120000, 5);
    Effect effect(kBridge);
    prepare(effect, 2);
    const Sound first = play(effect, x, 512);
    const int computed = daemon.num_chunks;
    CHECK(computed >= 25 && daemon.num_kept == computed);
    daemon.is_there = false;
    Effect second(kBridge);
    prepare(second, 2);
    CHECK(same(play(second, x, 333), first));
    CHECK(second.get(kState) == kCached);
    CHECK(daemon.num_chunks == computed && daemon.num_opened == 1);
    // In real time too, without waiting, once it is there: `never wait`, and given time.
    Effect third(kBridge);
    prepare(third, 2, kRate, kNeverWait);
    const Sound played = play_blocks(third, x, kRate, [] {
        const struct timespec time = {0, 3000000};
        ::nanosleep(&time, nullptr);
        return 2400;
    });
    CHECK(same(played, first));
    CHECK(third.get(kChunksDry) == 0);
}

void silence_needs_no_daemon() {
    fake::reset();
    daemon.is_there = false;
    Sound x = noise(2, 100000, 5);
    for (auto& channel : x) std::fill(channel.begin(), channel.end(), 0.0f);
    Effect effect(kBridge);
    prepare(effect, 2);
    CHECK(same(play(effect, x, 64), x));
    CHECK(daemon.num_opened == 0 && effect.get(kState) == kIdle);
    CHECK(effect.get(kChunksFailed) == 0);
    // And sound in the middle of silence is whole.
    daemon.is_there = true;
    const Sound middle = noise(2, 10000, 9);
    for (size_t c = 0; c < 2; ++c)
        std::copy(middle[c].begin(), middle[c].end(), x[c].begin() + 40000);
    effect.reset();
    CHECK(same(play(effect, x, 100), sum(x, high_of(x, first_place(), 0))));
}

// The song jumps: what comes after knows nothing of what was before, and nothing gets lost.
void jumps() {
    for (int i = 0; i < 12; ++i) {
        fake::reset();
        Chance chance(static_cast<uint64_t>(i) + 100);
        daemon.first_end = daemon.stride + chance.between(0, 30000);
        const int64_t block = chance.between(100, 5000);
        Effect effect(kBridge);
        prepare(effect, 1);
        const int64_t latency = effect.latency(kRate);
        std::vector<float> in, expected;
        std::vector<Transport> places;
        for (int j = 0; j < 5; ++j) {
            const int64_t blocks = chance.between(1, 20), song = chance.between(0, 500000);
            const Sound x = noise(1, blocks * block, static_cast<uint64_t>(i * 10 + j));
            const Sound y = sum(x, high_of(x, first_place() + song, 0));
            for (int64_t b = 0; b < blocks; ++b)  // positions as imprecise as hosts have them
                places.push_back({true, song + b * block + (b > 0 ? chance.between(-2, 2) : 0)});
            in.insert(in.end(), x[0].begin(), x[0].end());
            expected.insert(expected.end(), y[0].begin(), y[0].end());
        }
        const size_t size = in.size();
        in.resize(size + static_cast<size_t>(latency) + static_cast<size_t>(block), 0.0f);
        for (size_t done = 0, b = 0; done + static_cast<size_t>(block) <= in.size();
             done += static_cast<size_t>(block), ++b) {
            float* channel = in.data() + done;
            effect.process(&channel, &channel, block,
                           b < places.size() ? places[b] : Transport());
        }
        // The rest of the song goes on after its end without a jump, so nothing is cut there.
        const bool all = std::memcmp(in.data() + latency, expected.data(),
                                     size * sizeof(float)) == 0;
        CHECK(all);
        CHECK(effect.get(kChunksFailed) == 0);
    }
}

void failures() {
    const Sound x = noise(2, 100000, 5);
    for (const Failure policy : {kSilence, kDry}) {
        // No daemon at all.
        fake::reset();
        daemon.is_there = false;
        Effect none(kBridge);
        none.set(kFailure, policy);
        prepare(none, 2);
        Sound y = play(none, x, 1024);
        Sound silence = x;
        for (auto& channel : silence) std::fill(channel.begin(), channel.end(), 0.0f);
        CHECK(same(y, policy == kDry ? x : silence));
        CHECK(none.get(kChunksFailed) >= 2 && none.get(kChunksWet) == 0);
        CHECK(none.get(kState) == kNoDaemon);
        CHECK(!none.status_text().empty());

        // It refuses one chunk: that one fails, the others are wet.
        fake::reset();
        daemon.refuse_at = 7;
        Effect one(kBridge);
        one.set(kFailure, policy);
        prepare(one, 2);
        y = play(one, x, 1024);
        const Sound wet = sum(x, high_of(x, first_place(), 0));
        const int64_t begin = 7 * 4800, end = 8 * 4800;
        CHECK(same(part(y, 0, begin), part(wet, 0, begin)));
        CHECK(same(part(y, begin, end), part(policy == kDry ? x : silence, begin, end)));
        CHECK(same(part(y, end, 100000), part(wet, end, 100000)));
        CHECK(one.get(kChunksFailed) == 1);

        // It is lost, once: nobody notices. Too often: that chunk fails.
        fake::reset();
        daemon.lose_at = 5;
        Effect lost(kBridge);
        prepare(lost, 2);
        CHECK(same(play(lost, x, 1024), wet));
        CHECK(lost.get(kChunksFailed) == 0 && daemon.num_opened == 2);

        // Numbers that are none never leave; what they touch fails.
        fake::reset();
        Sound bad = x;
        bad[1][50000] = std::numeric_limits<float>::quiet_NaN();
        Effect broken(kBridge);
        broken.set(kFailure, policy);
        prepare(broken, 2);
        y = play(broken, bad, 1024);
        CHECK(broken.get(kChunksFailed) >= 1);
        CHECK(same(part(y, 0, 38000), part(wet, 0, 38000)));
        CHECK(same(part(y, 57600, 100000), part(wet, 57600, 100000)));
        CHECK(policy == kDry ? std::isnan(y[1][50000]) : y[1][50000] == 0);

        // Its plan does not fit into the latency.
        for (const bool is_far : {true, false}) {
            fake::reset();
            if (is_far)
                daemon.first_end = 6 * 48000;
            else
                daemon.stride = 20 * 48000;  // more than the queue back to us holds
            Effect wide(kBridge);
            wide.set(kFailure, policy);
            prepare(wide, 2);
            CHECK(same(play(wide, x, 1024), policy == kDry ? x : silence));
            CHECK(wide.get(kState) == kUnsupported && wide.get(kChunksFailed) >= 1);
        }

        // It has not the model.
        fake::reset();
        daemon.refuse_at = 0;
        daemon.code = "E_MODEL";
        Effect model(kBridge);
        prepare(model, 2);
        model.set(kFailure, policy);
        y = play(model, part(x, 0, 3000), 1024);
        CHECK(model.get(kChunksFailed) == 1 && model.get(kState) == kNoModel);
    }
}

// What keeps going wrong is said once, until something else happens.
void one_line_a_trouble() {
    fake::reset();
    const Sound x = noise(1, 100000, 5), y = noise(1, 100000, 6);
    Effect effect(kBridge);
    prepare(effect, 1);
    const auto lines_of = [&](const Sound& sound) {
        effect.reset();
        const int before = daemon.num_logged;
        play(effect, sound);
        return daemon.num_logged - before;
    };
    daemon.refuses_all = true;
    daemon.code = "E_MODEL";
    CHECK(lines_of(x) == 1 && effect.get(kChunksFailed) > 2);
    CHECK(lines_of(x) == 0);  // again, and the same
    daemon.code = "E_FAILED";
    CHECK(lines_of(x) == 1);
    daemon.refuses_all = false;
    CHECK(lines_of(x) == 0 && effect.get(kState) == kWet);
    daemon.refuses_all = true;
    CHECK(lines_of(y) == 1);
}

void mute_daemon() {
    fake::reset();
    ::setenv("AUDIOSR_BRIDGE_PLUGIN_TIMEOUT", "0.2", 1);
    const Sound x = noise(1, 50000, 5);
    Effect effect(kBridge);
    prepare(effect, 1);
    play(effect, x, 1024);
    effect.reset();
    fake::forget_all();
    daemon.is_mute = true;
    const Sound y = play(effect, x, 1024);
    for (const float sample : y[0]) CHECK(sample == 0);
    CHECK(effect.get(kChunksFailed) >= 1 && effect.get(kState) == kFailed);
}

void starts_the_daemon() {
    fake::reset();
    daemon.is_there = false;
    daemon.can_be_started = true;
    const Sound x = noise(1, 50000, 5);
    Effect effect(kBridge);
    prepare(effect, 1);
    CHECK(same(play(effect, x, 1024), sum(x, high_of(x, first_place(), 0))));
    CHECK(daemon.num_started == 1);
}

void knobs() {
    fake::reset();
    const Sound x = noise(2, 60000, 5), high = high_of(x, first_place(), 0);
    for (const double mix : {0.0, 0.3, 1.0}) {
        for (const double gain : {-6.0, 0.0, 12.0}) {
            Effect effect(kBridge);
            effect.set(kMix, mix);
            effect.set(kGainHf, gain);
            prepare(effect, 2);
            const float g = static_cast<float>(mix * std::pow(10.0, gain / 20));
            Sound expected = x, difference = x;
            for (size_t c = 0; c < 2; ++c)
                for (size_t i = 0; i < x[c].size(); ++i) {
                    if (mix > 0) expected[c][i] = x[c][i] + g * high[c][i];
                    difference[c][i] = 0.0f + g * high[c][i];
                }
            CHECK(same(play(effect, x, 777), expected));
            effect.set(kDelta, 1);
            effect.reset();
            const Sound delta = play(effect, x, 777);
            for (size_t c = 0; c < 2; ++c)
                for (size_t i = 0; i < x[c].size(); ++i) CHECK(delta[c][i] == difference[c][i]);
        }
    }
    // Bypass: the original at once, and no daemon for it.
    fake::reset();
    daemon.is_there = false;
    Effect bypassed(kBridge);
    bypassed.set(kBypass, 1);
    prepare(bypassed, 2);
    CHECK(same(play(bypassed, x, 777), x));
    CHECK(daemon.num_opened == 0 && bypassed.get(kChunksFailed) == 0);

    // Turned off in the middle: from there on all is wet, but for the glide.
    fake::reset();
    Effect turned(kBridge);
    turned.set(kBypass, 1);
    prepare(turned, 2);
    const int64_t latency = turned.latency(kRate);
    int64_t done = 0;
    const Sound y = play_blocks(turned, x, kRate, [&] {
        if (done == latency + 30000) turned.set(kBypass, 0);
        done += 240;
        return 240;
    });
    CHECK(same(part(y, 0, 30000), part(x, 0, 30000)));
    CHECK(same(part(y, 30960, 60000), part(sum(x, high), 30960, 60000)));
}

// The seed is turned: what comes after the next border of chunks is another render.
void automation() {
    fake::reset();
    const Sound x = noise(1, 100000, 5);
    Effect effect(kBridge);
    prepare(effect, 1);
    int64_t done = 0;
    const Sound y = play_blocks(effect, x, kRate, [&] {
        effect.set(kSeed, done >= 50000 ? 300 : 20);
        done += 500;
        return 500;
    });
    const Sound before = sum(x, high_of(x, first_place(), 20));
    const Sound after = sum(x, high_of(x, first_place(), 300));
    const int64_t border = (50000 / 4800 + 1) * 4800;
    CHECK(same(part(y, 0, border), part(before, 0, border)));
    CHECK(same(part(y, border, 100000), part(after, border, 100000)));
}

// A plan that the store remembers is not the daemon's any more.
void another_plan() {
    fake::reset();
    const Sound x = noise(1, 100000, 5);
    Effect effect(kBridge);
    prepare(effect, 1);
    play(effect, x);
    daemon.stride = 3000;
    daemon.past = 2000;
    daemon.first_end = 20000;
    daemon.model_sha256 = 'b';
    Effect other(kBridge);
    prepare(other, 1);
    const Sound z = noise(1, 100000, 6);
    CHECK(same(play(other, z), sum(z, high_of(z, first_place(), 0))));
}

void reset_forgets() {
    fake::reset();
    const Sound x = noise(2, 100000, 5), wet = sum(x, high_of(x, first_place(), 0));
    Effect effect(kBridge);
    prepare(effect, 2);
    for (int i = 0; i < 5; ++i) {
        Sound in = noise(2, 300000, 77);  // more than the latency, so that something is under way
        float* channels[] = {in[0].data(), in[1].data()};
        effect.process(channels, channels, 40000 + 50000 * i, {});
        effect.reset();
        CHECK(effect.get(kChunksWet) == 0);
        Sound buffer = x;
        const int64_t latency = effect.latency(kRate);
        for (auto& channel : buffer) channel.resize(static_cast<size_t>(100000 + latency));
        float* again[] = {buffer[0].data(), buffer[1].data()};
        effect.process(again, again, 100000 + latency, {});
        for (int64_t j = 0; j < latency; ++j) CHECK(buffer[0][j] == 0 && buffer[1][j] == 0);
        CHECK(same(part(buffer, latency, latency + 100000), wet));
    }
}

struct Waiting {
    Effect* effect;
    std::atomic<bool> began{false}, ended{false};
};

void* wait_in_process(void* argument) {
    Waiting& waiting = *static_cast<Waiting*>(argument);
    Sound x = noise(2, 600000, 1);
    float* channels[] = {x[0].data(), x[1].data()};
    waiting.began = true;
    waiting.effect->process(channels, channels, 600000, {});
    waiting.ended = true;
    return nullptr;
}

// `deactivate` while `process` waits for a daemon that takes an hour.
void deactivate_while_waiting() {
    for (int i = 0; i < 6; ++i) {
        fake::reset();
        daemon.chunk_ms = 3600000;
        Effect effect(kBridge);
        prepare(effect, 2);
        Waiting waiting = {&effect};
        pthread_t thread;
        CHECK(::pthread_create(&thread, nullptr, wait_in_process, &waiting) == 0);
        if (i % 2) wait_until([](Effect&) { return daemon.num_submitted > 1; }, effect);
        struct timespec before, after;
        ::clock_gettime(CLOCK_MONOTONIC, &before);
        effect.deactivate();
        ::clock_gettime(CLOCK_MONOTONIC, &after);
        CHECK(after.tv_sec - before.tv_sec < 3);
        CHECK(::pthread_join(thread, nullptr) == 0);
        CHECK(waiting.ended);
    }
}

// A transport that cannot be right is not listened to.
void wild_transport() {
    fake::reset();
    Effect effect(kBridge);
    prepare(effect, 1);
    const Sound x = noise(1, 200000, 5);
    Chance chance(4);
    Sound buffer = x;
    const int64_t latency = effect.latency(kRate);
    buffer[0].resize(static_cast<size_t>(200000 + latency));
    for (int64_t done = 0; done < 200000 + latency; done += 500) {
        float* channel = buffer[0].data() + done;
        const int64_t n = std::min<int64_t>(500, 200000 + latency - done);
        effect.process(&channel, &channel, n,
                       {true, done % 3 == 0 ? INT64_MIN + done : chance.between(0, 1 << 30)});
    }
    CHECK(effect.get(kChunksFailed) == 0);
    const Sound y = part(buffer, latency, 200000 + latency);
    CHECK(!same(part(y, 20000, 200000), part(x, 20000, 200000)));
}

// Who only looks at the plugin opens nothing, whatever it says and however long it takes; and a
// bounce of less than what a scanner plays is wet.
void scanners() {
    fake::reset();
    const Sound sound = noise(2, 5 * 512, 1), silence(2, std::vector<float>(5 * 512));
    for (int i = 0; i < 100; ++i) {
        Effect effect(i % 2 ? kLive : kBridge);
        prepare(effect, 2, 44100, kAuto);
        effect.set_offline(i % 4 > 1);
        for (const int kind : {0, 1, 0}) {  // as pedalboard has it
            Sound x = kind ? sound : silence;
            for (size_t at = 0; at < 5 * 512; at += 512) {
                float* channels[] = {x[0].data() + at, x[1].data() + at};
                effect.process(channels, channels, 512, {});
            }
            const struct timespec time = {0, 3000000};
            ::nanosleep(&time, nullptr);  // the renderer has seen it by then
            effect.deactivate();
            CHECK(effect.activate(44100, 2));
        }
    }
    CHECK(daemon.num_opened == 0);

    for (const int64_t size : {1, 100, 5000}) {
        for (const int64_t before : {0, 5000, 300000}) {
            Sound x = noise(1, before + size, 5);
            std::fill_n(x[0].begin(), before, 0.0f);
            Effect effect(kBridge);
            prepare(effect, 1, kRate, kAuto);
            effect.set_offline(true);
            CHECK(same(play(effect, x, 512), sum(x, high_of(x, first_place(), 0))));
            CHECK(effect.get(kChunksWet) > 0 && effect.get(kChunksFailed) == 0);
        }
    }
}

void live() {
    fake::reset();
    daemon.stride = 240;
    daemon.past = 0;
    daemon.first_end = 240;
    for (const int64_t block : {1, 64, 512, 8192}) {
        const Sound x = noise(2, block == 1 ? 20000 : 100000, 5);
        Effect effect(kLive);
        prepare(effect, 2);
        const Sound y = play(effect, x, block);
        CHECK(same(y, sum(x, high_of(x, first_place(), 0))));
        CHECK(effect.get(kChunksFailed) == 0 && effect.get(kChunksDry) == 0);
        CHECK(effect.get(kState) == kWet && daemon.num_kept == 0);
        effect.reset();
        CHECK(same(play(effect, x, block), y));
        daemon.is_there = true;
    }
    daemon.is_there = false;
    Effect none(kLive);
    prepare(none, 1);
    const Sound x = noise(1, 100000, 5);
    const Sound y = play(none, x, 512);
    for (const float sample : y[0]) CHECK(sample == 0);
    CHECK(none.get(kChunksFailed) >= 2 && none.get(kState) == kNoDaemon);
}

// In real time what is late is dry, fades, and is counted; the next pass is wet.
void late_is_dry() {
    fake::reset();
    const Sound x = noise(1, 100000, 5);
    const Sound wet = sum(x, high_of(x, first_place(), 0));
    daemon.is_mute = true;
    Effect effect(kBridge);
    prepare(effect, 1, kRate, kNeverWait);
    int64_t done = 0;
    const auto paced = [&] {
        done += 960;
        if (done > 40000 + effect.latency(kRate)) daemon.is_mute = false;
        const struct timespec time = {0, 200000};
        ::nanosleep(&time, nullptr);
        return 960;
    };
    Sound y = play_blocks(effect, x, kRate, paced);
    CHECK(same(part(y, 0, 40000), part(x, 0, 40000)));
    float largest_step = 0;
    for (size_t i = 40001; i < y[0].size(); ++i) {
        const float now = y[0][i] - x[0][i], high = wet[0][i] - x[0][i];
        CHECK(std::fabs(now) <= std::fabs(high) + 1e-6f);
        largest_step = std::max(largest_step, std::fabs(now));
    }
    effect.set(kRenderMode, kWait);
    effect.reset();
    CHECK(same(play(effect, x), wet));
}

// In real time a chunk that is late holds up none behind it, and is rendered for the next pass.
void late_holds_up_nobody() {
    fake::reset();
    static constexpr int64_t kOther = 30000, kSize = 120000, kBlock = 2400;
    const int64_t num_late = (kOther + daemon.past) / daemon.stride + 1;
    const int64_t stored_from = num_late * daemon.stride;
    Sound x = noise(2, kSize, 5);
    {
        Effect effect(kBridge);
        prepare(effect, 2);
        play(effect, x);
    }
    const Sound other = noise(2, kOther, 6);  // at its beginning it is another sound now
    for (size_t c = 0; c < 2; ++c) std::copy(other[c].begin(), other[c].end(), x[c].begin());
    const Sound wet = sum(x, high_of(x, first_place(), 0));
    const int num_kept = daemon.num_kept;
    daemon.is_mute = true;

    Effect effect(kBridge);
    prepare(effect, 2, kRate, kNeverWait);
    int64_t due = -effect.latency(kRate);
    const Sound y = play_blocks(effect, x, kRate, [&] {
        const struct timespec time = {0, 1000000};
        if (due < stored_from - kBlock)
            ::nanosleep(&time, nullptr);  // what comes faster than this is lost
        else
            CHECK(wait_until([](Effect& e) { return e.ahead() >= 2 * kBlock; }, effect));
        due += kBlock;
        return kBlock;
    });
    const int64_t fade = 240;
    CHECK(same(part(y, 0, stored_from), part(x, 0, stored_from)));
    CHECK(same(part(y, stored_from + fade, kSize), part(wet, stored_from + fade, kSize)));
    CHECK(effect.get(kChunksDry) == num_late && effect.get(kChunksFailed) == 0);

    daemon.is_mute = false;
    CHECK(wait_until([=](Effect&) { return daemon.num_kept == num_kept + num_late; }, effect));
    daemon.is_there = false;
    effect.set(kRenderMode, kWait);
    effect.reset();
    CHECK(same(play(effect, x), wet));
    CHECK(effect.get(kState) == kCached);
}

// Everything at once, over and over: nothing crashes, hangs or races.
void soak() {
    Chance chance(1);
    for (int i = 0; i < 60; ++i) {
        fake::reset();
        daemon.stride = chance.between(2000, 20000);
        daemon.past = chance.between(0, 5000);
        daemon.first_end = daemon.stride + chance.between(0, 5000);
        daemon.chunk_ms = static_cast<int>(chance.between(0, 1));
        daemon.lose_at = static_cast<int>(chance.between(-1, 30));
        daemon.refuse_at = static_cast<int>(chance.between(-1, 30));
        daemon.is_there = chance.between(0, 5) > 0;
        Effect effect(i % 3 ? kBridge : kLive);
        const int channels = static_cast<int>(chance.between(1, 2));
        prepare(effect, channels, i % 2 ? 44100 : 96000,
                static_cast<RenderMode>(chance.between(0, 2)));
        int64_t song = 0;
        for (int j = 0; j < 40; ++j) {
            const int64_t n = chance.between(1, j % 10 ? 3000 : 65536);
            Sound x = noise(2, n, static_cast<uint64_t>(j));
            Sound y = x;
            if (j % 7 == 0)
                for (auto& channel : x) std::fill(channel.begin(), channel.end(), 0.0f);
            if (j % 13 == 0) x[0][static_cast<size_t>(n / 2)] = INFINITY;
            float* in[] = {x[0].data(), x[1].data()};
            float* out[] = {y[0].data(), y[1].data()};
            if (chance.between(0, 5) == 0) song = chance.between(0, 10000000);
            effect.process(in, chance.between(0, 1) ? in : out, n,
                           {chance.between(0, 1) == 1, song});
            song += n;
            const uint32_t id = static_cast<uint32_t>(chance.between(0, kNumParameters));
            if (chance.between(0, 3) == 0) effect.set(id % kNumParameters, chance.sample() * 30000);
            if (chance.between(0, 15) == 0) effect.reset();
            if (chance.between(0, 30) == 0) {
                effect.deactivate();
                effect.process(in, out, n, {});
                CHECK(effect.activate(48000, channels));
            }
            if (chance.between(0, 10) == 0) daemon.is_there = !daemon.is_there;
            effect.set_offline(chance.between(0, 1) == 1);
            const std::string state = effect.save();
            CHECK(effect.load(state.data(), state.size()));
            effect.status_text();
        }
    }
}

struct Law {
    const char* name;
    void (*run)();
};
constexpr Law kLaws[] = {
    {"any_blocks", any_blocks},
    {"any_start", any_start},
    {"second_pass_needs_no_daemon", second_pass_needs_no_daemon},
    {"silence_needs_no_daemon", silence_needs_no_daemon},
    {"jumps", jumps},
    {"failures", failures},
    {"one_line_a_trouble", one_line_a_trouble},
    {"mute_daemon", mute_daemon},
    {"starts_the_daemon", starts_the_daemon},
    {"knobs", knobs},
    {"automation", automation},
    {"another_plan", another_plan},
    {"reset_forgets", reset_forgets},
    {"deactivate_while_waiting", deactivate_while_waiting},
    {"wild_transport", wild_transport},
    {"scanners", scanners},
    {"live", live},
    {"late_is_dry", late_is_dry},
    {"late_holds_up_nobody", late_holds_up_nobody},
    {"soak", soak},
};

}  // namespace

int main(int, char** arguments) {
    for (const Law& law : kLaws) {
        if (arguments[1] && std::strcmp(arguments[1], law.name) != 0) continue;
        law.run();
        std::printf("%s\n", law.name);
    }
    return 0;
}

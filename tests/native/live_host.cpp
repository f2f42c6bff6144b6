// A host that plays: blocks at the pace of the clock, in an ordinary thread, through the effect
// with everything behind it. The sound is played again and again.
//
//     live_host in= out= blocks= rate=48000 channels=2 block=512 seconds=10 [set=ID:PLAIN ...]
//
// `in` and `out` are float32, planar. `blocks` gets one `Mark` a block. Prints "playing" when the
// first block is due, and in the end what the plugin shows and the processor time it took, as JSON.
#include <sys/resource.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "effect.h"
#include "fakes.h"

namespace {

using namespace audiosr;

struct Mark {
    float ahead;       // seconds by which the generated band is there before it is needed
    float took;        // seconds in `process`
    float woke_late;   // seconds after the block was due
    float num_late;    // seconds of sound that were dry so far, as the plugin counts them
};

using Options = std::multimap<std::string, std::string>;

std::string option(const Options& options, const char* name, const char* otherwise) {
    const auto found = options.find(name);
    return found == options.end() ? otherwise : found->second;
}

std::vector<float> read_floats(const std::string& path) {
    std::FILE* file = std::fopen(path.c_str(), "rb");
    CHECK(file && std::fseek(file, 0, SEEK_END) == 0);
    std::vector<float> values(static_cast<size_t>(std::ftell(file)) / sizeof(float));
    std::rewind(file);
    CHECK(std::fread(values.data(), sizeof(float), values.size(), file) == values.size());
    std::fclose(file);
    return values;
}

template <typename T>
void write_values(const std::string& path, const std::vector<T>& values) {
    std::FILE* file = std::fopen(path.c_str(), "wb");
    CHECK(file && std::fwrite(values.data(), sizeof(T), values.size(), file) == values.size());
    CHECK(std::fclose(file) == 0);
}

double seconds_now() {
    timespec now;
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

void sleep_until(double when) {
    timespec then = {static_cast<time_t>(when), 0};
    then.tv_nsec = static_cast<long>((when - std::floor(when)) * 1e9);
    while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, nullptr) != 0) {
    }
}

double seconds_used(int who) {
    rusage used;
    CHECK(::getrusage(who, &used) == 0);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
    };
    return seconds(used.ru_utime) + seconds(used.ru_stime);
}

}  // namespace

int main(int count, char** arguments) {
    Options options;
    for (int i = 1; i < count; ++i) {
        const char* equals = std::strchr(arguments[i], '=');
        CHECK(equals);
        const size_t length = static_cast<size_t>(equals - arguments[i]);
        options.emplace(std::string(arguments[i], length), equals + 1);
    }
    const double rate = std::atof(option(options, "rate", "48000").c_str());
    const int num_channels = std::atoi(option(options, "channels", "2").c_str());
    const int64_t block = std::atoll(option(options, "block", "512").c_str());
    const double seconds = std::atof(option(options, "seconds", "10").c_str());
    const std::vector<float> in = read_floats(option(options, "in", ""));
    const int64_t period = static_cast<int64_t>(in.size()) / num_channels / block * block;
    const int64_t num_blocks = static_cast<int64_t>(seconds * rate) / block;
    CHECK(period > 0 && num_blocks > 0);
    std::vector<float> out(static_cast<size_t>(num_channels * num_blocks * block), 0.0f);
    std::vector<Mark> marks(static_cast<size_t>(num_blocks), Mark{});

    Effect effect(kLive);
    for (const auto& [name, text] : options)
        if (name == "set")
            effect.set(static_cast<uint32_t>(std::atoi(text.c_str())),
                       std::atof(text.c_str() + text.find(':') + 1));
    CHECK(effect.activate(rate, num_channels));

    const size_t in_stride = in.size() / static_cast<size_t>(num_channels);
    const size_t out_stride = out.size() / static_cast<size_t>(num_channels);
    const double audio_before = seconds_used(RUSAGE_THREAD), all_before = seconds_used(RUSAGE_SELF);
    const double began = seconds_now();
    std::puts("playing");
    std::fflush(stdout);
    for (int64_t i = 0; i < num_blocks; ++i) {
        const double due = began + static_cast<double>((i + 1) * block) / rate;
        sleep_until(due);
        const double woke = seconds_now();
        const float* from[kMaxChannels] = {};
        float* to[kMaxChannels] = {};
        for (int c = 0; c < num_channels; ++c) {
            from[c] = in.data() + static_cast<size_t>(c) * in_stride + i * block % period;
            to[c] = out.data() + static_cast<size_t>(c) * out_stride + i * block;
        }
        Mark& mark = marks[static_cast<size_t>(i)];
        mark.ahead = static_cast<float>(static_cast<double>(effect.ahead() - block) / rate);
        effect.process(from, to, block, Transport());
        mark.took = static_cast<float>(seconds_now() - woke);
        mark.woke_late = static_cast<float>(woke - due);
        mark.num_late = static_cast<float>(effect.get(kChunksDry));
    }
    const double audio = seconds_used(RUSAGE_THREAD) - audio_before;
    const double all = seconds_used(RUSAGE_SELF) - all_before;
    std::printf("{\"latency\": %lld, \"played\": %.3f, \"audio\": %.6f, \"renderer\": %.6f, "
                "\"wet\": %.0f, \"dry\": %.0f, \"failed\": %.0f, \"state\": \"%s\"}\n",
                static_cast<long long>(effect.latency(rate)), seconds_now() - began, audio,
                all - audio, effect.get(kChunksWet), effect.get(kChunksDry),
                effect.get(kChunksFailed), effect.status_text().c_str());
    effect.deactivate();
    write_values(option(options, "out", ""), out);
    write_values(option(options, "blocks", ""), marks);
    return 0;
}

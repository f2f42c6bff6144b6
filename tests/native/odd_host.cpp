// A host in want of something, or that does too much; with all of the plugin, and a real daemon.
//
//     odd_host COMMAND [N]
//
//     closed     standard input, output and error are closed, and what is said to them goes nowhere
//     files      no file may be opened any more
//     memory     ever less memory; each time in a process of its own, that must end by itself
//     many       N instances at once, each with a thread of the host's
//     cycles     N times activated, a bounce, deactivated
//     busy       one thread renders, others activate, reset, load and look, for N tenths of a s
//     denormals  flushed to zero, in the thread of the audio
//
// Prints {"wet": seconds, "silent": …, "other": …, "files", "threads", "kilobytes"}, the
// last three as they rose.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "effect.h"
#include "front.h"
#include "laws.h"

using namespace audiosr;

namespace {

constexpr double kRate = 48000;
constexpr int64_t kSize = 96000, kBlock = 4096;
constexpr float kGain = 1.0f / 1024;  // of the engine `echo`, with seed 0
constexpr int kHangSeconds = 60;

std::atomic<int64_t> wet{0}, silent{0}, other{0}, failed{0};  // samples; chunks

int entries(const char* folder) {
    int count = 0;
    DIR* open = ::opendir(folder);
    NEED(open);
    while (::readdir(open)) ++count;
    ::closedir(open);
    return count;
}

long kilobytes() {
    long pages = 0, resident = 0;
    std::FILE* file = std::fopen("/proc/self/statm", "r");
    NEED(file && std::fscanf(file, "%ld %ld", &pages, &resident) == 2);
    std::fclose(file);
    return resident * (::sysconf(_SC_PAGESIZE) / 1024);
}

// The same from each caller who says the same number.
float noise(uint32_t number, int64_t i) {
    uint32_t x = static_cast<uint32_t>(i) * 2654435761u + number * 40503u + 1;
    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    return static_cast<float>(x >> 8) / 16777216.0f - 0.5f;
}

bool activate(Effect& effect, int num_channels = 2) {
    return guarded(false, [&] { return effect.activate(kRate, num_channels); });
}

// What came of kSize samples of noise, in place, is counted.
void bounce(Effect& effect, uint32_t number) {
    const int64_t latency = effect.latency(kRate);
    std::vector<float> left(kBlock), right(kBlock);
    for (int64_t at = 0; at < kSize + latency; at += kBlock) {
        for (int64_t i = 0; i < kBlock; ++i) {
            left[i] = at + i < kSize ? noise(number, at + i) : 0.0f;
            right[i] = -left[i];
        }
        float* channels[] = {left.data(), right.data()};
        effect.process(channels, channels, kBlock, {});
        for (int64_t i = 0; i < kBlock; ++i) {
            const int64_t from = at + i - latency;
            if (from < 0 || from >= kSize) continue;
            const float x = noise(number, from), y = x + x * kGain;
            const bool is_wet = left[i] == y && right[i] == -y;
            const bool is_silent = left[i] == 0 && right[i] == 0;
            (is_wet ? wet : is_silent ? silent : other) += 1;
        }
    }
    failed += static_cast<int64_t>(effect.get(kChunksFailed));
    if (effect.get(kChunksFailed) > 0)
        std::fprintf(stderr, "%s\n", effect.status_text().c_str());
}

std::unique_ptr<Effect> offline_effect() {
    auto effect = std::make_unique<Effect>(kBridge);
    effect->set_offline(true);
    return effect;
}

void one_bounce(uint32_t number) {
    const auto effect = offline_effect();
    NEED(activate(*effect));
    bounce(*effect, number);
}

void closed(int) {
    const int kept = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10);
    for (int i = 0; i < 3; ++i) ::close(i);
    const auto effect = offline_effect();
    NEED(activate(*effect));
    for (int i = 0; i < 3; ++i) {
        bounce(*effect, 100 + static_cast<uint32_t>(i));
        for (int to = 0; to < 3; ++to) NEED(::write(to, "hello", 5) == -1);
    }
    effect->deactivate();
    NEED(::dup2(kept, STDOUT_FILENO) >= 0);
}

void files(int) {
    const auto effect = offline_effect();
    rlimit before;
    NEED(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    const rlimit none = {3, before.rlim_max};
    NEED(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    NEED(activate(*effect));
    bounce(*effect, 200);
    NEED(::setrlimit(RLIMIT_NOFILE, &before) == 0);
}

void memory(int) {
    for (rlim_t megabytes = 1; megabytes < 64; megabytes += 3) {
        const pid_t child = ::fork();
        NEED(child >= 0);
        if (child == 0) {
            ::alarm(kHangSeconds);
            long pages = 0;
            std::FILE* file = std::fopen("/proc/self/statm", "r");
            NEED(file && std::fscanf(file, "%ld", &pages) == 1);
            const rlim_t now = static_cast<rlim_t>(pages) * 4096;
            const auto effect = offline_effect();
            const rlimit little = {now + (megabytes << 20), RLIM_INFINITY};
            NEED(::setrlimit(RLIMIT_AS, &little) == 0);
            guarded(0, [&] {
                if (activate(*effect)) bounce(*effect, static_cast<uint32_t>(megabytes));
                effect->deactivate();
                return 0;
            });
            ::_exit(other == 0 ? 0 : 1);
        }
        int status = -1;
        NEED(::waitpid(child, &status, 0) == child);
        if (status != 0) std::fprintf(stderr, "with %d MB: status %d\n", int(megabytes), status);
        NEED(status == 0);
    }
}

void* run_bounce(void* number) {
    one_bounce(static_cast<uint32_t>(reinterpret_cast<uintptr_t>(number)));
    return nullptr;
}

void many(int count) {
    std::vector<pthread_t> threads(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i)
        NEED(::pthread_create(&threads[i], nullptr, run_bounce,
                              reinterpret_cast<void*>(uintptr_t(1000 + i))) == 0);
    for (pthread_t thread : threads) ::pthread_join(thread, nullptr);
}

void cycles(int count) {
    const auto effect = offline_effect();
    for (int i = 0; i < count; ++i) {
        NEED(activate(*effect, 2));
        bounce(*effect, 300 + static_cast<uint32_t>(i % 4));
        effect->deactivate();
    }
}

std::atomic<bool> is_over{false};

void* render(void* effect) {
    std::vector<float> left(1 << 20), right(1 << 20);
    for (uint32_t turn = 0; !is_over; ++turn) {
        const int64_t size = turn % 7 == 0 ? 1000000 : 1 + turn * 7919 % 9000;
        for (int64_t i = 0; i < size; ++i) left[i] = noise(turn, i);
        left[0] = turn % 11 == 0 ? NAN : 0;
        const float* in[] = {left.data(), right.data()};
        float* out[] = {right.data(), left.data()};  // in place, and the channels swapped
        static_cast<Effect*>(effect)->process(in, out, size, {turn % 5 == 0, -turn * 1000000007ll});
    }
    return nullptr;
}

void* look(void* argument) {
    Effect& effect = *static_cast<Effect*>(argument);
    while (!is_over) {
        for (uint32_t id = 0; id < kNumParameters + 2; ++id) effect.get(id);
        for (uint32_t id = 0; id < kNumParameters + 2; ++id) effect.set(id, id % 3);
        effect.set(kBypass, 0);
        effect.set_offline(true);
        ::usleep(500);
    }
    return nullptr;
}

void busy(int tenths) {
    const auto effect = offline_effect();
    pthread_t threads[2];
    NEED(activate(*effect));
    NEED(::pthread_create(&threads[0], nullptr, render, effect.get()) == 0);
    NEED(::pthread_create(&threads[1], nullptr, look, effect.get()) == 0);
    for (int i = 0; i < tenths; ++i) {
        const std::string state = effect->save();
        NEED(effect->load(state.data(), state.size()));
        effect->status_text();
        ::usleep(50000);
        effect->deactivate();
        ::usleep(50000);
        NEED(activate(*effect, 2));
    }
    effect->deactivate();
    is_over = true;
    for (pthread_t thread : threads) ::pthread_join(thread, nullptr);
}

void denormals(int) {
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() | 0x8040);
#endif
    one_bounce(400);
}

struct Command {
    const char* name;
    void (*run)(int);
};
constexpr Command kCommands[] = {{"closed", closed}, {"files", files},   {"memory", memory},
                                 {"many", many},     {"cycles", cycles}, {"busy", busy},
                                 {"denormals", denormals}};

}  // namespace

int main(int count, char** arguments) {
    NEED(count >= 2);
    const std::string name = arguments[1];
    const int number = count > 2 ? std::atoi(arguments[2]) : 1;
    one_bounce(1);  // what is there once is there now
    wet = silent = other = failed = 0;
    const int files = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    const long memory = kilobytes();
    for (const Command& command : kCommands)
        if (name == command.name) command.run(number);
    std::printf("{\"wet\": %.3f, \"silent\": %.3f, \"other\": %.3f, \"failed\": %lld, "
                "\"files\": %d, \"threads\": %d, \"kilobytes\": %ld}\n",
                double(wet) / kRate, double(silent) / kRate, double(other) / kRate,
                static_cast<long long>(failed.load()), entries("/proc/self/fd") - files,
                entries("/proc/self/task") - threads, kilobytes() - memory);
}

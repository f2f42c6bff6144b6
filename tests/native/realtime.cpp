// The thread of the host's audio in real time calls nothing that may wait: while it is in `process`
// the allocator, locks and I/O abort the program, and so does the kernel, where it lets itself be
// told, at any system call. The daemon takes 10 s a chunk. Prints what a block took.
#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "effect.h"
#include "fakes.h"

namespace {

thread_local volatile bool in_process = false;

void forbid(const char* what) {
    if (!in_process) return;
    in_process = false;
    std::fprintf(stderr, "%s in the audio thread\n", what);
    std::abort();
}

template <typename Function>
Function* next(Function*, const char* name) {
    return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

// What is called below is found by the linker before what libc has.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void __libc_free(void*);

void* malloc(size_t size) { return forbid("malloc"), __libc_malloc(size); }
void* calloc(size_t n, size_t size) { return forbid("calloc"), __libc_calloc(n, size); }
void* realloc(void* p, size_t size) { return forbid("realloc"), __libc_realloc(p, size); }
void free(void* p) { forbid("free"), __libc_free(p); }

#define AUDIO_MAY_NOT(name, parameters, ...)                    \
    {                                                           \
        forbid(#name);                                          \
        static const auto real = next(&name, #name);            \
        return real(__VA_ARGS__);                               \
    }

int pthread_mutex_lock(pthread_mutex_t* m) noexcept AUDIO_MAY_NOT(pthread_mutex_lock, , m)
int pthread_mutex_trylock(pthread_mutex_t* m) noexcept AUDIO_MAY_NOT(pthread_mutex_trylock, , m)
int pthread_cond_broadcast(pthread_cond_t* c) noexcept AUDIO_MAY_NOT(pthread_cond_broadcast, , c)
int pthread_cond_signal(pthread_cond_t* c) noexcept AUDIO_MAY_NOT(pthread_cond_signal, , c)
int pthread_cond_timedwait(pthread_cond_t* c, pthread_mutex_t* m, const timespec* t)
    AUDIO_MAY_NOT(pthread_cond_timedwait, , c, m, t)
ssize_t read(int fd, void* to, size_t n) AUDIO_MAY_NOT(read, , fd, to, n)
ssize_t write(int fd, const void* from, size_t n) AUDIO_MAY_NOT(write, , fd, from, n)
ssize_t send(int fd, const void* from, size_t n, int f) AUDIO_MAY_NOT(send, , fd, from, n, f)
ssize_t recv(int fd, void* to, size_t n, int f) AUDIO_MAY_NOT(recv, , fd, to, n, f)
int poll(pollfd* fds, nfds_t n, int ms) AUDIO_MAY_NOT(poll, , fds, n, ms)
int nanosleep(const timespec* a, timespec* b) AUDIO_MAY_NOT(nanosleep, , a, b)
}

namespace {

// From now on this thread's system calls other than these fail the program. They are what the
// test itself needs between the blocks; `process` makes none at all, which `strict` shows.
bool trap_system_calls() {
    constexpr unsigned kAllowed[] = {SYS_clock_nanosleep, SYS_nanosleep, SYS_exit, SYS_madvise,
                                     SYS_rt_sigprocmask,  SYS_munmap,    SYS_futex};
    std::vector<sock_filter> filter = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr))};
    for (const unsigned number : kAllowed) {
        filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1));
        filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    }
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS));
    const sock_fprog program = {static_cast<unsigned short>(filter.size()), filter.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

int64_t now_ns() {
    timespec now;
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}

struct Run {
    const audiosr::Profile* profile;
    audiosr::RenderMode mode;
    int64_t block;
    bool paced;  // at the speed of the clock
    int count;
    bool trapped = false;
    std::vector<int64_t> took;
};

void* play(void* argument) {
    using namespace audiosr;
    Run& run = *static_cast<Run*>(argument);
    Effect effect(*run.profile);
    effect.set(kRenderMode, run.mode);
    CHECK(effect.activate(48000, 2));
    std::vector<float> x[2];
    for (auto& channel : x) channel.assign(static_cast<size_t>(run.block), 0.5f);
    float* channels[] = {x[0].data(), x[1].data()};
    run.took.reserve(static_cast<size_t>(run.count));
    const int64_t began = now_ns();
    for (int i = 0; i < run.count; ++i) {
        for (auto& channel : x) std::fill(channel.begin(), channel.end(), 0.5f);
        if (i % 50 == 0) effect.set(kMix, (i / 50 % 10) / 10.0);
        if (i % 400 == 0) effect.set(kSeed, i / 400 % 7);
        if (i == run.count / 2) effect.reset();
        const Transport transport = {true, i % 500 == 499 ? 0 : i * run.block};
        const int64_t before = now_ns();
        in_process = true;
        effect.process(channels, channels, run.block, transport);
        in_process = false;
        run.took.push_back(now_ns() - before);
        const int64_t due = began + (i + 1) * run.block * 1000000000 / 48000;
        const int64_t rest = run.paced ? due - now_ns() : 20000;
        const timespec time = {rest / 1000000000, rest % 1000000000};
        if (rest > 0) ::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
    }
    return nullptr;
}

// A thread of its own whose system calls are trapped: it is given an effect that is active.
struct Strict {
    audiosr::Effect* effect;
    bool trapped = false;
};

void* play_strictly(void* argument) {
    Strict& strict = *static_cast<Strict*>(argument);
    static float x[2][512];
    float* channels[] = {x[0], x[1]};
    strict.trapped = trap_system_calls();
    for (int i = 0; i < 20000; ++i) {
        std::fill_n(&x[0][0], 1024, 0.25f);
        strict.effect->process(channels, channels, 512, {true, i * 512});
        if (i == 10000) strict.effect->reset();
    }
    return nullptr;
}

void run_in_thread(void* (*function)(void*), void* argument) {
    pthread_t thread;
    CHECK(::pthread_create(&thread, nullptr, function, argument) == 0);
    CHECK(::pthread_join(thread, nullptr) == 0);
}

}  // namespace

int main(int, char** arguments) {
    const int count = arguments[1] ? std::atoi(arguments[1]) : 2000;
    fake::daemon.chunk_ms = 10000;
    for (const audiosr::Profile* profile : {&audiosr::kBridge, &audiosr::kLive}) {
        for (const int64_t block : {64, 128, 256, 512}) {
            Run run = {profile, audiosr::kNeverWait, block, false, count, false, {}};
            run_in_thread(play, &run);
            std::sort(run.took.begin(), run.took.end());
            const auto at = [&](double share) {
                const double place = share * static_cast<double>(run.took.size() - 1);
                return static_cast<double>(run.took[static_cast<size_t>(place)]) / 1000;
            };
            std::printf("%s block %lld: p50 %.1f, p99.99 %.1f, max %.1f us\n", profile->id,
                        static_cast<long long>(block), at(0.5), at(0.9999), at(1));
        }
        Run paced = {profile, audiosr::kAuto, 512, true, 100, false, {}};
        run_in_thread(play, &paced);

        audiosr::Effect effect(*profile);
        effect.set(audiosr::kRenderMode, audiosr::kNeverWait);
        CHECK(effect.activate(48000, 2));
        Strict strict = {&effect};
        run_in_thread(play_strictly, &strict);
        std::printf("%s: system calls %s\n", profile->id, strict.trapped ? "trapped" : "not seen");
    }
    return 0;
}

// A host that forks: the other process has no renderer, and there neither `process` nor
// `deactivate` hangs, and a new `activate` works. With the daemon and the store of fakes.h.
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "effect.h"
#include "fakes.h"

using namespace audiosr;

namespace {

constexpr int64_t kSize = 400000;
constexpr int kHangSeconds = 20;

void play(Effect& effect) {
    std::vector<float> left(kSize, 0.25f), right(kSize, 0.5f);
    float* channels[] = {left.data(), right.data()};
    effect.process(channels, channels, kSize, {});
}

void* run(void* effect) {
    play(*static_cast<Effect*>(effect));
    return nullptr;
}

void in_the_child(Effect& effect, bool is_beside) {
    ::alarm(kHangSeconds);
    if (!is_beside) play(effect);
    effect.deactivate();
    fake::daemon.chunk_ms = 0;
    CHECK(effect.activate(48000, 2));
    play(effect);
    CHECK(effect.get(kChunksWet) > 0 && effect.get(kChunksFailed) == 0);
    effect.deactivate();
    ::_exit(0);
}

void forked(bool is_beside) {  // another thread that waits in `process`
    fake::reset();
    fake::daemon.chunk_ms = 3600000;
    Effect effect(kBridge);
    effect.set(kRenderMode, kWait);
    CHECK(effect.activate(48000, 2));
    pthread_t thread = {};
    if (is_beside) {
        CHECK(::pthread_create(&thread, nullptr, run, &effect) == 0);
        while (fake::daemon.num_submitted == 0) ::sched_yield();
    }
    const pid_t child = ::fork();
    CHECK(child >= 0);
    if (child == 0) in_the_child(effect, is_beside);
    int status = -1;
    CHECK(::waitpid(child, &status, 0) == child && status == 0);
    effect.deactivate();
    if (is_beside) ::pthread_join(thread, nullptr);
}

}  // namespace

int main() {
    for (int i = 0; i < 10; ++i) forked(i % 2 == 1);
}

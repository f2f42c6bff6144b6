#include "renderer.h"

#include <sched.h>
#include <signal.h>

#include "chunks.h"
#include "live.h"

namespace audiosr {
namespace {

constexpr int kPollMs = 2, kPollIdleMs = 50;
constexpr int64_t kIdleAfterMs = 1000;
constexpr size_t kStackBytes = 1 << 20;  // a host may lock all memory; the usual 8 MiB are much

Workplace workplace(const RendererPlace& place, History& history, Daemon& daemon,
                    Delivery& delivery) {
    return {place.sample_rate, place.num_channels, place.latency, place.presets,
            history,           daemon,             delivery,      place.report};
}

}  // namespace

Renderer::Renderer(const RendererPlace& place)
    : place_(place),
      history_(place.num_channels),
      daemon_(place.sample_rate, place.num_channels, place.profile.live, stop_),
      delivery_(place.wet, place.to_audio, place.num_channels) {
    const Workplace at = workplace(place_, history_, daemon_, delivery_);
    if (place.profile.live)
        resolver_ = std::make_unique<Live>(at);
    else
        resolver_ = std::make_unique<Chunks>(at);

    // An ordinary thread, whatever the host's is; its signals are the host's business.
    pthread_attr_t attributes;
    const struct sched_param ordinary = {};
    sigset_t all, before;
    ::pthread_attr_init(&attributes);
    ::pthread_attr_setstacksize(&attributes, kStackBytes);
    ::pthread_attr_setinheritsched(&attributes, PTHREAD_EXPLICIT_SCHED);
    ::pthread_attr_setschedpolicy(&attributes, SCHED_OTHER);
    ::pthread_attr_setschedparam(&attributes, &ordinary);
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    is_running_ = ::pthread_create(&thread_, &attributes, run, this) == 0;
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ::pthread_attr_destroy(&attributes);
}

Renderer::~Renderer() {
    if (is_forked()) return;
    stop_ = true;
    place_.to_renderer.ring();
    if (is_running_) ::pthread_join(thread_, nullptr);
}

void* Renderer::run(void* self) {
    Renderer& renderer = *static_cast<Renderer*>(self);
    try {
        renderer.loop();
    } catch (...) {
        renderer.is_dead_.store(true, std::memory_order_release);
        renderer.place_.report.tell(kFailed);
        renderer.place_.to_audio.ring();
    }
    return nullptr;
}

void Renderer::loop() {
    while (!stop_) {
        while (history_.append(place_.feed)) last_input_ms_ = now_ms();
        place_.to_audio.ring();  // there is room in the feed
        work();
        pause();
    }
}

void Renderer::work() {
    if (history_.fresh_from() != fresh_from_) {
        fresh_from_ = history_.fresh_from();
        resolver_->drop();
    }
    if (delivery_.until() < fresh_from_ && !delivery_.push_silence(fresh_from_)) return;
    resolver_->work();
    history_.forget_before(resolver_->needs_from());
}

// Sleeps until there is something to do, or to look again.
void Renderer::pause() {
    if (daemon_.is_awaited()) {
        daemon_.listen(kPollMs);
        return;
    }
    daemon_.listen(0);
    const bool is_idle = now_ms() - last_input_ms_ > kIdleAfterMs;
    place_.to_renderer.wait(is_idle ? kPollIdleMs : kPollMs,
                            [&] { return stop_ || !place_.feed.is_empty(); });
}

}  // namespace audiosr

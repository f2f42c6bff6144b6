// The thread that makes the generated band of an active effect: takes the input from `Feed`, has it
// resolved by store and daemon, and puts what came into `Wet`. Nothing is opened before there was
// sound.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <memory>

#include "bell.h"
#include "delivery.h"
#include "queues.h"

namespace audiosr {

struct RendererPlace {
    const Profile& profile;
    int sample_rate, num_channels;
    int64_t latency;
    const Presets& presets;
    Feed& feed;
    Wet& wet;
    Bell& to_renderer;  // rung by who waits and would have us look at once
    Bell& to_audio;     // rung by us
    Report& report;
};

class Renderer {
  public:
    explicit Renderer(const RendererPlace& place);  // [main] starts the thread
    ~Renderer();                                    // [main] ends it
    Renderer(const Renderer&) = delete;
    Renderer& operator=(const Renderer&) = delete;

    bool is_running() const { return is_running_; }
    // [any] This is a process that the host forked: the thread is in the other one.
    bool is_forked() const { return ::getpid() != process_; }
    // [any] It gave up for want of memory, or is not here: nothing more will be resolved.
    bool is_dead() const { return is_dead_.load(std::memory_order_acquire) || is_forked(); }

  private:
    static void* run(void* self);
    void loop();
    void work();
    void pause();

    RendererPlace place_;
    std::atomic<bool> stop_{false}, is_dead_{false};
    pthread_t thread_ = {};
    bool is_running_ = false;
    const pid_t process_ = ::getpid();

    History history_;
    Daemon daemon_;
    Delivery delivery_;
    std::unique_ptr<Resolver> resolver_;
    int64_t last_input_ms_ = 0, fresh_from_ = 0;
};

}  // namespace audiosr

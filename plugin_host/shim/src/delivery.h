// What the renderer hands over: pieces in order of time, and what people should know of it.
#pragma once

#include <pthread.h>

#include <atomic>
#include <string>

#include "bell.h"
#include "daemon.h"
#include "history.h"
#include "lock.h"
#include "queues.h"
#include "settings.h"

namespace audiosr {

// Written by the renderer, read by anybody.
class Report {
  public:
    void tell(Status status, const std::string& text = "") {
        status_.store(status, std::memory_order_relaxed);
        const Lock lock(mutex_);
        text_ = text;
    }
    void tell(const Trouble& trouble) { tell(trouble.status, trouble.text); }
    void rendered_by(const std::string& model, const std::string& sha256) {
        const Lock lock(mutex_);
        model_ = model;
        model_sha256_ = sha256;
    }
    void set_progress(double fraction) { progress_.store(fraction, std::memory_order_relaxed); }

    Status status() const { return status_.load(std::memory_order_relaxed); }
    double progress() const { return progress_.load(std::memory_order_relaxed); }
    void read(std::string& text, std::string& model, std::string& model_sha256) const {
        const Lock lock(mutex_);
        text = text_;
        model = model_;
        model_sha256 = model_sha256_;
    }

  private:
    std::atomic<Status> status_{kIdle};
    std::atomic<double> progress_{0};
    mutable pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
    std::string text_, model_, model_sha256_;
};

// The one writer of a `Wet`; knows how far it got.
class Delivery {
  public:
    Delivery(Wet& wet, Bell& bell, int num_channels)
        : wet_(wet), bell_(bell), num_channels_(num_channels) {}

    int64_t until() const { return until_; }
    uint32_t new_chunk() { return ++num_chunks_; }

    // Planar samples, or none. False: no room now.
    bool push(int64_t until, Found found, uint32_t chunk, const float* planar = nullptr) {
        const int64_t size = until - until_;
        if (size <= 0) return true;
        const float* channels[kMaxChannels] = {};
        for (int c = 0; planar && c < num_channels_; ++c) channels[c] = planar + c * size;
        if (!wet_.push({until_, size, found, chunk, planar != nullptr}, channels)) return false;
        until_ = until;
        bell_.ring();
        return true;
    }
    bool push_silence(int64_t until) { return push(until, Found::wet, 0); }

  private:
    Wet& wet_;
    Bell& bell_;
    const int num_channels_;
    int64_t until_ = 0;
    uint32_t num_chunks_ = 0;
};

// What a resolver works with; all of the renderer's thread, but `stop`.
struct Workplace {
    int sample_rate, num_channels;
    int64_t latency;
    const Presets& presets;
    History& history;
    Daemon& daemon;
    Delivery& delivery;
    Report& report;

    // Input that is not yet needed to be known about: its output is still to come.
    int64_t due() const { return history.end() - latency; }
    // A quarter of a second after the first sound a host means it, or where it waits for what it
    // gave us; a scanner does neither, though it may say that it is offline.
    bool is_awake() const {
        const bool is_waited_for = history.last().offline && due() > history.fresh_from();
        return history.first_sound() != kNever &&
               (is_waited_for || history.end() - history.first_sound() > sample_rate / 4);
    }
    // Pieces of a second, where nothing better is known: the second after this time.
    int64_t second_after(int64_t time) const {
        return (time / sample_rate + 1) * sample_rate;
    }
};

// Turns input into pieces, a little at each call of `work`.
class Resolver {
  public:
    virtual ~Resolver() = default;
    virtual void work() = 0;
    virtual int64_t needs_from() const = 0;  // time; no input before it
    virtual void drop() = 0;                 // what is on its way: nobody wants it any more
};

}  // namespace audiosr

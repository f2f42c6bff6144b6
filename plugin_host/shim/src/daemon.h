// The daemon as the renderer sees it: reached, or started, or not to be had; and its jobs, each
// with the part of the generated band that has come. Used by the renderer's thread alone.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "clock.h"
#include "link.h"
#include "parameters.h"
#include "places.h"
#include "profile.h"

namespace audiosr {

struct Trouble {
    Status status = kIdle;  // kIdle: none
    std::string text;
};

Trouble trouble_of(const std::string& code, const std::string& text);

// Nothing but numbers, and none that is absurd (120 dB above full scale).
bool is_sound(const std::vector<float>& samples);

struct Job {
    std::string name;
    int64_t sent = 0;  // place: input before it is on its way
    bool is_decided = false, is_over = false, retryable = false;
    Plan plan;
    std::string model_sha256;
    Trouble trouble;  // of one that is over

    // What has come and was not taken yet: places got_from .. got_until.
    int64_t got_from = 0, got_until = 0;
    bool has_got = false;
    std::vector<float> got[kMaxChannels];

    bool is_awaited = false;
    int64_t heard_ms = 0, news_ms = 0;  // a word about it; one that says that it goes on
    double fraction = 0;   // of its progress

    void copy(int64_t from, int64_t to, std::vector<float>& planar, int num_channels) const;
    void forget_before(int64_t place, int num_channels);
};

class Daemon {
  public:
    Daemon(int sample_rate, int num_channels, bool live, const std::atomic<bool>& stop);
    ~Daemon();

    enum class Reach { open, soon, gone };
    // A failed try is repeated after 2 s; `at_once` for who waits and would rather know now.
    Reach reach(bool at_once);
    const Trouble& trouble() const { return trouble_; }  // why it is gone
    bool is_starting() const { return start_.is_running; }

    std::shared_ptr<Job> submit(const std::string& settings, int64_t origin, int64_t start);
    // Planar input from job.sent on, as much as is allowed.
    void send(Job& job, const std::vector<float>& planar, int64_t num_samples);
    int64_t room(const Job& job) const;
    void await(Job& job, bool is_awaited);
    void close(Job& job);

    bool is_awaited() const;      // something of it
    void listen(int timeout_ms);  // takes what has come, waits for it at most so long
    double progress() const { return progress_; }

  private:
    struct Start {  // of the daemon, by a thread of its own: it takes seconds
        pthread_t thread = {};
        bool is_running = false;
        std::atomic<bool> is_done{false};
        bool succeeded = false;
        std::vector<std::string> command;
        std::atomic<bool>* stop = nullptr;
    };
    static void* run_start(void* start);
    void begin_start();
    bool end_start();  // true: it runs now

    void wait_for_busy(const std::string& code);
    Reach fail(const std::string& code, const std::string& text);
    void on_event(const Event& event);
    void on_partial(Job& job, const Event& event);
    void end(Job& job, const Trouble& why, bool retryable);
    void lose(const std::string& code, const std::string& text);
    void look_at_clocks();
    void log_once(const std::string& text);

    const int sample_rate_, num_channels_;
    const bool live_;
    const std::atomic<bool>& stop_;
    std::atomic<bool> stop_start_{false};
    Link link_;
    Start start_;
    Trouble trouble_;
    std::string logged_;  // the last sentence, until something else happens
    std::vector<std::shared_ptr<Job>> jobs_;
    double progress_ = 0;
    int64_t next_try_ms_ = 0, next_start_ms_ = 0, given_up_until_ms_ = 0;
    // It is there and does not take us: whoever waits is patient with it, for some time.
    bool is_busy_ = false, is_patient_ = false;
    int64_t patient_until_ms_ = 0;
    int64_t timeout_ms_;
};

}  // namespace audiosr

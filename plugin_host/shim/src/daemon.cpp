#include "daemon.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "json.h"

namespace audiosr {
namespace {

constexpr int kOpenMs = 2000, kStartMs = 60000;
constexpr int64_t kTryAgainMs = 2000, kStartAgainMs = 60000, kGivenUpMs = 30000,
                  kPatientMs = 30000;
constexpr double kSilentSeconds = 120;
constexpr int64_t kPatience = 10;  // so many times as long for a daemon that only says it works
constexpr int kMostAtOnce = 64;  // events, before there is something else to do
constexpr float kLoudest = 1e6f;

int64_t timeout_of_environment() {
    const char* text = std::getenv("AUDIOSR_BRIDGE_PLUGIN_TIMEOUT");
    Json said;  // a point in it is one in every locale
    const bool is_said = text && parse(text, std::strlen(text), said) && said.value > 0 &&
                         said.value < 86400;
    return static_cast<int64_t>(1000 * (is_said ? said.value : kSilentSeconds));
}

struct Cause {
    const char* code;
    Status status;
};
constexpr Cause kCauses[] = {
    {"E_NO_DAEMON", kNoDaemon},   {"E_TIMEOUT", kNoDaemon},    {"E_VERSION", kVersion},
    {"E_MODEL", kNoModel},        {"E_SETTINGS", kUnsupported}, {"E_USAGE", kUnsupported},
    {"E_UNSUPPORTED", kUnsupported},
};

}  // namespace

Trouble trouble_of(const std::string& code, const std::string& text) {
    for (const Cause& cause : kCauses)
        if (code == cause.code) return {cause.status, text};
    return {kFailed, text};
}

bool is_sound(const std::vector<float>& samples) {
    return std::all_of(samples.begin(), samples.end(),
                       [](float x) { return std::fabs(x) <= kLoudest; });
}

void Job::copy(int64_t from, int64_t to, std::vector<float>& planar, int num_channels) const {
    planar.clear();
    for (int c = 0; c < num_channels; ++c)
        planar.insert(planar.end(), got[c].begin() + (from - got_from),
                      got[c].begin() + (to - got_from));
}

void Job::forget_before(int64_t place, int num_channels) {
    const int64_t old = std::min(place, got_until) - got_from;
    if (old <= 0) return;
    for (int c = 0; c < num_channels; ++c) got[c].erase(got[c].begin(), got[c].begin() + old);
    got_from += old;
}

Daemon::Daemon(int sample_rate, int num_channels, bool live, const std::atomic<bool>& stop)
    : sample_rate_(sample_rate),
      num_channels_(num_channels),
      live_(live),
      stop_(stop),
      timeout_ms_(timeout_of_environment()) {}

Daemon::~Daemon() {
    stop_start_ = true;
    if (start_.is_running) ::pthread_join(start_.thread, nullptr);
}

void* Daemon::run_start(void* argument) {
    Start& start = *static_cast<Start*>(argument);
    start.succeeded = start_daemon(start.command, kStartMs, start.stop);
    start.is_done.store(true, std::memory_order_release);
    return nullptr;
}

void Daemon::begin_start() {
    if (now_ms() < next_start_ms_) return;
    start_.command = read_config().start;
    if (start_.command.empty()) return;
    next_start_ms_ = now_ms() + kStartAgainMs;
    start_.is_done = false;
    start_.stop = &stop_start_;
    start_.is_running = ::pthread_create(&start_.thread, nullptr, run_start, &start_) == 0;
}

bool Daemon::end_start() {
    ::pthread_join(start_.thread, nullptr);
    start_.is_running = false;
    return start_.succeeded;
}

Daemon::Reach Daemon::fail(const std::string& code, const std::string& text) {
    trouble_ = trouble_of(code, text);
    next_try_ms_ = now_ms() + kTryAgainMs;
    return Reach::gone;
}

Daemon::Reach Daemon::reach(bool at_once) {
    if (link_.is_open()) return Reach::open;
    if (now_ms() < given_up_until_ms_) return Reach::gone;
    if (start_.is_running) {
        if (!start_.is_done.load(std::memory_order_acquire)) return Reach::soon;
        if (!end_start())
            return fail("E_NO_DAEMON", "the daemon could not be started; plugin.log says why");
        at_once = true;
    }
    if (now_ms() < next_try_ms_) {
        if (!at_once || is_patient_) return Reach::soon;
        if (is_busy_) return Reach::gone;
    }
    std::string code, text;
    if (link_.open(runtime_folder(), kOpenMs, stop_, code, text)) {
        trouble_ = Trouble();
        is_busy_ = is_patient_ = false;
        return Reach::open;
    }
    if (code == "E_NO_DAEMON") begin_start();
    if (start_.is_running) return Reach::soon;
    fail(code, text);
    wait_for_busy(code);
    return at_once && is_patient_ ? Reach::soon : Reach::gone;
}

// One that is there and has no time, or no room for another, may have it soon.
void Daemon::wait_for_busy(const std::string& code) {
    const bool was_busy = is_busy_;
    is_busy_ = code == "E_TIMEOUT" || code == "E_BUSY" || code == "E_STOPPING";
    if (is_busy_ && !was_busy) patient_until_ms_ = now_ms() + std::min(timeout_ms_, kPatientMs);
    is_patient_ = is_busy_ && now_ms() < patient_until_ms_;
}

std::shared_ptr<Job> Daemon::submit(const std::string& settings, int64_t origin, int64_t start) {
    auto job = std::make_shared<Job>();
    job->name = Link::new_name();
    job->sent = origin;
    Submit what;
    what.job = job->name;
    what.sample_rate = sample_rate_;
    what.num_channels = num_channels_;
    what.settings = settings;
    what.origin = origin;
    what.start = start;
    what.live = live_;
    jobs_.push_back(job);
    if (!link_.submit(what)) lose("E_NO_DAEMON", "the daemon is gone");
    return job;
}

int64_t Daemon::room(const Job& job) const { return job.is_over ? 0 : link_.room(job.name); }

void Daemon::send(Job& job, const std::vector<float>& planar, int64_t num_samples) {
    const float* channels[kMaxChannels] = {};
    for (int c = 0; c < num_channels_; ++c) channels[c] = planar.data() + c * num_samples;
    job.sent += link_.send(job.name, job.sent, channels, num_samples);
}

void Daemon::await(Job& job, bool is_awaited) {
    if (is_awaited && !job.is_awaited) job.heard_ms = job.news_ms = now_ms();
    job.is_awaited = is_awaited;
}

bool Daemon::is_awaited() const {
    return std::any_of(jobs_.begin(), jobs_.end(), [](const auto& job) { return job->is_awaited; });
}

void Daemon::close(Job& job) {
    if (!job.is_over && link_.is_open()) link_.cancel(job.name);
    end(job, job.trouble, job.retryable);
}

void Daemon::lose(const std::string& code, const std::string& text) {
    link_.close();
    for (const auto& job : jobs_) {
        if (job->is_over) continue;
        job->is_over = job->retryable = true;
        job->trouble = trouble_of(code, text);
    }
    jobs_.clear();
}

void Daemon::on_event(const Event& event) {
    if (event.kind == Event::lost) {
        log_once("the daemon was lost: " + event.text);
        lose(event.code, event.text);
        return;
    }
    const auto found = std::find_if(jobs_.begin(), jobs_.end(),
                                    [&](const auto& job) { return job->name == event.job; });
    if (found == jobs_.end()) return;
    const std::shared_ptr<Job> job = *found;
    bool is_news = true;
    switch (event.kind) {
        case Event::decided:
            is_news = !job->is_decided;
            job->is_decided = true;
            job->plan = event.plan;
            job->model_sha256 = event.model_sha256;
            break;
        case Event::partial: on_partial(*job, event); break;
        case Event::progress:
            is_news = event.fraction > job->fraction;
            job->fraction = progress_ = event.fraction;
            break;
        case Event::final: end(*job, trouble_of(event.code, event.text), false); break;
        case Event::error:
            log_once(event.code + ": " + event.text);
            end(*job, trouble_of(event.code, event.text), event.retryable);
            break;
        default: break;
    }
    job->heard_ms = now_ms();
    if (is_news) job->news_ms = job->heard_ms;
}

void Daemon::on_partial(Job& job, const Event& event) {
    if (!is_sound(event.high)) {
        link_.cancel(job.name);
        end(job, {kFailed, "the daemon sent what is no sound; its log may say why"}, false);
        return;
    }
    if (!job.has_got) job.got_from = job.got_until = event.start;
    job.has_got = true;
    job.fraction = 0;
    logged_.clear();
    for (int c = 0; c < num_channels_; ++c)
        job.got[c].insert(job.got[c].end(), event.high.begin() + c * event.num_samples,
                          event.high.begin() + (c + 1) * event.num_samples);
    job.got_until += event.num_samples;
}

void Daemon::end(Job& job, const Trouble& why, bool retryable) {
    job.is_over = true;
    job.retryable = retryable;
    job.trouble = why;
    const auto is_it = [&](const auto& one) { return one.get() == &job; };
    jobs_.erase(std::remove_if(jobs_.begin(), jobs_.end(), is_it), jobs_.end());
}

void Daemon::look_at_clocks() {
    const int64_t now = now_ms();
    for (const auto& job : jobs_) {
        if (!job->is_awaited) continue;
        const bool is_silent = now - job->heard_ms >= timeout_ms_;
        const int64_t without_news = now - job->news_ms;
        if (!is_silent && without_news < kPatience * timeout_ms_) continue;
        const int64_t waited_ms = is_silent ? timeout_ms_ : without_news;
        const std::string text = std::string("the daemon ") +
                                 (is_silent ? "said nothing" : "got no further") + " for " +
                                 std::to_string(waited_ms / 1000) + " s; see its log";
        log_once(text);
        lose("E_FAILED", text);
        trouble_ = trouble_of("E_FAILED", text);
        given_up_until_ms_ = now + kGivenUpMs;
        return;
    }
}

// What is wrong with one chunk is wrong with all that follow: one line is enough.
void Daemon::log_once(const std::string& text) {
    if (text == logged_) return;
    logged_ = text;
    log_line(text);
}

void Daemon::listen(int timeout_ms) {
    if (!link_.is_open()) return;
    Event event = link_.next(timeout_ms);
    for (int i = 0; event.kind != Event::none; ++i) {
        on_event(event);
        if (!link_.is_open()) return;
        if (i == kMostAtOnce) break;
        event = link_.next(0);
    }
    look_at_clocks();
}

}  // namespace audiosr

#include "fakes.h"

#include <time.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>

#include "json.h"
#include "places.h"
#include "store.h"

namespace fake {

Daemon daemon;

namespace {

struct Lock {
    Lock() { ::pthread_mutex_lock(&mutex); }
    ~Lock() { ::pthread_mutex_unlock(&mutex); }
    static pthread_mutex_t mutex;
};
pthread_mutex_t Lock::mutex = PTHREAD_MUTEX_INITIALIZER;

std::map<std::string, std::vector<float>> stored;
std::map<std::string, std::pair<audiosr::Plan, std::string>> stored_plans;

void sleep_ms(int ms) {
    const struct timespec time = {ms / 1000, (ms % 1000) * 1000000L};
    ::nanosleep(&time, nullptr);
}

int64_t clock_ms() {
    struct timespec now;
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<int64_t>(now.tv_sec) * 1000 + now.tv_nsec / 1000000;
}

}  // namespace

void forget_all() {
    const Lock lock;
    stored.clear();
    stored_plans.clear();
}

void reset() {
    forget_all();
    daemon.is_there = true;
    daemon.can_be_started = false;
    daemon.stride = 4800;
    daemon.past = 1000;
    daemon.first_end = 9600;
    daemon.chunk_ms = 0;
    daemon.lose_at = daemon.refuse_at = -1;
    daemon.is_mute = daemon.refuses_all = false;
    daemon.room = daemon.most_at_once = 1 << 20;
    daemon.code = "E_FAILED";
    daemon.model_sha256 = 'a';
    daemon.num_opened = daemon.num_submitted = daemon.num_chunks = daemon.num_started = 0;
    daemon.num_found = daemon.num_kept = daemon.num_logged = 0;
}

float high_at(const float* x, int64_t size, int64_t place, int64_t first_place, int64_t ahead,
              int64_t back, uint32_t seed) {
    const auto at = [&](int64_t p) {
        return p >= first_place && p < first_place + size ? x[p - first_place] : 0.0f;
    };
    const float gain = static_cast<float>(seed % 1000 + 1) / 1024;
    const float noise = static_cast<float>(place % 97) / 97;
    return gain * (at(place) + 0.25f * noise * at(place + ahead) + 0.125f * at(place - back));
}

}  // namespace fake

namespace audiosr {

using fake::daemon;

struct Link::Inside {
    struct Job {
        Submit what;
        uint32_t seed = 0;
        std::vector<std::vector<float>> input;
        int64_t next = 0;  // chunk
        int64_t ready_ms = 0;
        Plan plan;
    };
    bool open = false;
    std::map<std::string, Job> jobs;
    std::deque<Event> events;

    // The next chunk of any job whose input and time have come.
    void compute() {
        for (auto& [name, job] : jobs) {
            const Plan& plan = job.plan;
            const int64_t received = job.what.origin + static_cast<int64_t>(job.input[0].size());
            const int64_t first = job.next * plan.stride;
            const int64_t needed = job.what.live ? first + plan.stride : first + plan.first_end;
            if (daemon.is_mute || received < needed) continue;
            if (job.ready_ms == 0) job.ready_ms = fake::clock_ms() + daemon.chunk_ms;
            if (fake::clock_ms() < job.ready_ms) continue;
            job.ready_ms = 0;
            if (daemon.lose_at >= 0 && daemon.lose_at-- == 0) {
                open = false;
                Event lost;
                lost.kind = Event::lost;
                lost.code = "E_NO_DAEMON";
                lost.text = "killed by a test";
                events = {lost};
                jobs.clear();
                return;
            }
            if (daemon.refuses_all || (daemon.refuse_at >= 0 && daemon.refuse_at-- == 0)) {
                Event error;
                error.kind = Event::error;
                error.job = name;
                error.code = daemon.code.load();
                error.text = "refused by a test";
                events.push_back(error);
                jobs.erase(name);
                return;
            }
            ++daemon.num_chunks;
            send(job, first, first + plan.stride);
            ++job.next;
            return;
        }
    }

    void send(const Job& job, int64_t from, int64_t until) {
        const int64_t ahead = job.what.live ? 0 : job.plan.first_end - job.plan.stride;
        while (from < until) {
            Event event;
            event.kind = Event::partial;
            event.job = job.what.job;
            event.start = from;
            event.num_samples = std::min<int64_t>(until - from, daemon.most_at_once);
            for (const auto& x : job.input)
                for (int64_t p = from; p < from + event.num_samples; ++p)
                    event.high.push_back(fake::high_at(x.data(), static_cast<int64_t>(x.size()), p,
                                                       job.what.origin, ahead, job.plan.past,
                                                       job.seed));
            from += event.num_samples;
            events.push_back(event);
        }
    }
};

Link::Link() : inside_(std::make_unique<Inside>()) {}
Link::~Link() = default;

bool Link::open(const std::string&, int, const std::atomic<bool>&, std::string& code,
                std::string& text) {
    ++daemon.num_opened;
    inside_->open = daemon.is_there;
    if (!inside_->open) {
        code = "E_NO_DAEMON";
        text = "there is none";
    }
    return inside_->open;
}

void Link::close() {
    inside_->open = false;
    inside_->jobs.clear();
    inside_->events.clear();
}

bool Link::is_open() const { return inside_->open; }

std::string Link::new_name() {
    static std::atomic<int> number{0};
    return std::to_string(++number);
}

bool Link::submit(const Submit& what) {
    if (!inside_->open) return false;
    ++daemon.num_submitted;
    Inside::Job job;
    job.what = what;
    job.input.resize(static_cast<size_t>(what.num_channels));
    job.plan = {daemon.stride, daemon.past, daemon.first_end, daemon.first_end};
    if (what.live) job.plan = {240, 0, 240, 240};
    job.next = std::max(what.start, what.origin) / job.plan.stride;
    Json settings;
    CHECK(parse(what.settings.data(), what.settings.size(), settings));
    job.seed = static_cast<uint32_t>(settings.whole_or("seed", 0));
    inside_->jobs[what.job] = job;
    Event decided;
    decided.kind = Event::decided;
    decided.job = what.job;
    decided.plan = job.plan;
    decided.model_sha256.assign(64, daemon.model_sha256);
    if (!daemon.is_mute) inside_->events.push_back(decided);
    return true;
}

int64_t Link::room(const std::string&) const { return daemon.room; }

int64_t Link::send(const std::string& name, int64_t start, const float* const* samples,
                   int64_t n) {
    const auto found = inside_->jobs.find(name);
    if (found == inside_->jobs.end()) return 0;
    Inside::Job& job = found->second;
    CHECK(start == job.what.origin + static_cast<int64_t>(job.input[0].size()));
    n = std::min<int64_t>(n, daemon.room);
    for (size_t c = 0; c < job.input.size(); ++c) {
        for (int64_t i = 0; i < n; ++i) CHECK(samples[c][i] - samples[c][i] == 0);  // finite
        job.input[c].insert(job.input[c].end(), samples[c], samples[c] + n);
    }
    return n;
}

void Link::cancel(const std::string& job) {
    inside_->jobs.erase(job);
    auto& events = inside_->events;
    events.erase(std::remove_if(events.begin(), events.end(),
                                [&](const Event& event) { return event.job == job; }),
                 events.end());
}

Event Link::next(int timeout_ms) {
    const int64_t deadline = fake::clock_ms() + timeout_ms;
    for (;;) {
        if (inside_->events.empty()) inside_->compute();
        if (!inside_->events.empty()) {
            const Event event = inside_->events.front();
            inside_->events.pop_front();
            return event;
        }
        if (fake::clock_ms() >= deadline) return Event();
        fake::sleep_ms(1);
    }
}

// ---- the store

Store::Store(std::string folder, uint64_t max_bytes) : folder_(folder), max_bytes_(max_bytes) {}

std::string Store::key(const std::string& settings, const std::string& model_sha256,
                       int sample_rate, int num_channels, const Plan& plan, int64_t index,
                       const float* const* input) {
    std::string key = settings + model_sha256 + std::to_string(sample_rate) + "/" +
                      std::to_string(plan.stride) + "/" + std::to_string(index) + "/";
    for (int c = 0; c < num_channels; ++c)
        key.append(reinterpret_cast<const char*>(input[c]),
                   static_cast<size_t>(plan.past + plan.first_end) * sizeof(float));
    return key;
}

bool Store::find(const std::string& key, int, int64_t, std::vector<float>& planar) {
    const fake::Lock lock;
    const auto found = fake::stored.find(key);
    if (found == fake::stored.end()) return false;
    planar = found->second;
    ++daemon.num_found;
    return true;
}

void Store::keep(const std::string& key, int num_channels, int64_t num_samples,
                 const float* planar) {
    const fake::Lock lock;
    fake::stored[key].assign(planar, planar + num_channels * num_samples);
    ++daemon.num_kept;
}

bool Store::find_plan(const std::string& settings, int sample_rate, int, Plan& plan,
                      std::string& model_sha256) {
    const fake::Lock lock;
    const auto found = fake::stored_plans.find(settings + std::to_string(sample_rate));
    if (found == fake::stored_plans.end()) return false;
    plan = found->second.first;
    model_sha256 = found->second.second;
    return true;
}

void Store::keep_plan(const std::string& settings, int sample_rate, int, const Plan& plan,
                      const std::string& model_sha256) {
    const fake::Lock lock;
    fake::stored_plans[settings + std::to_string(sample_rate)] = {plan, model_sha256};
}

// ---- places

std::string runtime_folder() { return "/nowhere"; }
std::string cache_folder() { return "/nowhere"; }

Config read_config() {
    Config config;
    if (daemon.can_be_started) config.start = {"/start"};
    return config;
}

bool start_daemon(const std::vector<std::string>&, int, const std::atomic<bool>* stop) {
    ++daemon.num_started;
    for (int i = 0; i < 50 && !*stop; ++i) fake::sleep_ms(2);
    daemon.is_there = true;
    return true;
}

void log_line(const std::string&) { ++daemon.num_logged; }

}  // namespace audiosr

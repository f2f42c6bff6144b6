#include "link.h"

#include <algorithm>
#include <cstring>
#include <list>
#include <map>
#include <poll.h>
#include <unistd.h>
#include <utility>

#include "json.h"
#include "places.h"
#include "sha256.h"
#include "wire.h"
#include "zmtp.h"

namespace audiosr {
namespace {

constexpr int64_t kPingMs = 1000, kDeadMs = 5000, kGoodbyeMs = 200;
constexpr int64_t kMaxCreditBytes = 16 << 20, kSampleBytes = sizeof(float);
constexpr int64_t kPieceBytes = 1 << 20;    // of audio in a message
constexpr size_t kMaxUnsentBytes = 2 << 20;  // then no more is taken
constexpr int64_t kCreditShare = 8;         // credit is given back when there is so much of it
constexpr int kBurst = 16;                  // messages from one socket before anything else
constexpr size_t kConnectionBytes = 64 << 10;
constexpr int kSchema = 1;

constexpr char kNoDaemon[] = "no daemon is running; start one with `audiosr-bridge daemon start`";
constexpr char kSilent[] =
    "the daemon does not answer; see `audiosr-bridge daemon status`, and restart it";
constexpr char kGone[] = "the daemon went away; start it with `audiosr-bridge daemon start`";

struct Connection {
    std::string control, work;  // endpoints
    Key key;
};

struct Failure {
    std::string code, text;
};

// The connection file of the daemon: where it listens, and the key. An empty code: it was read.
Failure read_connection(const std::string& folder, Connection& to) {
    std::string text;
    Json json;
    if (folder.empty() || !read_private(folder + "/daemon.json", kConnectionBytes, text)) {
        return {"E_NO_DAEMON", kNoDaemon};
    }
    if (!parse(text.data(), text.size(), json)) {
        return {"E_NO_DAEMON", "the daemon's connection file is damaged; restart the daemon"};
    }
    if (json.whole_or("schema", kSchema) != kSchema) {
        return {"E_VERSION", "daemon and plugin are of different versions; update the older one"};
    }
    const Json* where = json.get("endpoints");
    to.control = where ? where->text_or("control", "") : "";
    to.work = where ? where->text_or("work", "") : "";
    if (!unhex(json.text_or("key", ""), to.key.data(), to.key.size())) {
        return {"E_NO_DAEMON", "the daemon's connection file has no key; restart the daemon"};
    }
    return {};
}

Failure unreached(int64_t deadline_ms) {
    return now_ms() < deadline_ms ? Failure{"E_NO_DAEMON", kNoDaemon}
                                  : Failure{"E_TIMEOUT", kSilent};
}

bool read_plan(const Json& json, int sample_rate, Plan& plan) {
    plan.stride = json.whole_or("stride_in", 0);
    plan.first_end = json.whole_or("first_end_in", 0);
    plan.latency = json.whole_or("latency_samples", -1);
    plan.past = json.whole_or("past_in", 0);
    return plan.is_possible(sample_rate) && json.whole_or("rate_in", 0) == sample_rate &&
           json.whole_or("rate_out", 0) == sample_rate;
}

bool is_high_alone(const Json* parts) {
    return parts && parts->items.size() == 1 && parts->items[0].string == "high";
}

}  // namespace

struct Link::Inside {
    struct Side {
        Zmtp socket;
        Outgoing out;
        Incoming in;

        void send(const char* type, const Meta& meta = {}, const std::string* audio = nullptr) {
            socket.send(out.message(type, meta.written(), audio).frames());
        }
    };

    struct Job {
        Submit what;
        Plan plan;                 // once it is decided
        bool is_accepted = false, is_ending = false, is_complete = false;
        int64_t next_in = 0;       // absolute sample that is sent next
        int64_t next_out = -1;     // and that comes next; none before the first
        int64_t input_credit = 0;  // bytes we may send
        int64_t owed = 0;          // bytes of results that were taken and not given back yet

        bool is_due(int64_t start, int64_t size) const;
    };

    Side control, work;
    Limits limits;
    int64_t minor = 0;
    std::string version;
    int64_t heard_at = 0, ping_at = 0;
    pid_t process = 0;          // that opened it: a forked one keeps silent
    bool is_up = false;         // from the welcome until it is told that the daemon is lost
    bool has_new_room = false;  // for input, where there was none
    std::map<std::string, Job> jobs;
    std::list<Event> events;

    // ---- the session

    Failure greet(const Connection& to, int64_t deadline_ms, const std::atomic<bool>& stop);
    Failure begin(const Connection& to, const std::string& nonce, const Message& answer);
    bool is_open() const {
        return is_up && control.socket.is_open() && work.socket.is_open();
    }
    bool is_full() const { return work.socket.unsent() > kMaxUnsentBytes; }
    void hang_up();
    void lose(const std::string& code, const std::string& text, bool retryable);

    // ---- what comes

    bool pump();
    bool take(Side& side);
    void beat();
    void on_control(const Message& message);
    void on_work(const Message& message);
    void on_error(const Message& message);
    void on_accepted(Job& job, const Message& message);
    void on_decided(Job& job, const Message& message);
    void on_partial(Job& job, const Message& message);
    void wait(int64_t deadline_ms);

    // ---- what goes

    void send_audio(Job& job, int64_t size, const std::string& audio, bool is_last);
    void give_back(const Event& event);
    void give_up(const std::string& job, const char* code, const char* text);
    void fail(const std::string& job, const std::string& code, const std::string& text,
              bool retryable);
    Event& add(Event::Kind kind, const std::string& job);
};

// ---- the session

Failure Link::Inside::greet(const Connection& to, int64_t deadline_ms,
                            const std::atomic<bool>& stop) {
    if (!control.socket.open(to.control, deadline_ms, stop)) {
        return unreached(deadline_ms);
    }
    const std::string nonce = random_hex();
    Meta hello;
    hello.json("protocol", '[' + std::to_string(kMajor) + ',' + std::to_string(kMinor) + ']')
        .text("client", "plugin")
        .text("version", AUDIOSR_VERSION)
        .whole("pid", getpid())
        .text("nonce", nonce)
        .text("key", "local");
    control.socket.send(signed_message(to.key, "hello", "", 0, hello.written()).frames());
    Frames frames;
    Message answer;
    while (true) {
        if (!control.socket.receive(frames)) {
            if (!control.socket.wait(deadline_ms, stop)) {
                return {"E_TIMEOUT", kSilent};
            }
        } else if (open_message(to.key, frames, answer) == Opened::good &&
                   (answer.type == "welcome" || answer.type == "refused") &&
                   answer.meta.text_or("client_nonce", "") == nonce) {
            break;
        }
    }
    if (answer.type == "refused") {
        return {answer.meta.text_or("code", ""), answer.meta.text_or("text", "")};
    }
    const Failure failure = begin(to, nonce, answer);
    if (failure.code.empty() && !work.socket.open(to.work, deadline_ms, stop)) {
        return unreached(deadline_ms);
    }
    is_up = failure.code.empty();
    return failure;
}

Failure Link::Inside::begin(const Connection& to, const std::string& nonce,
                            const Message& answer) {
    const Json& meta = answer.meta;
    const auto& protocol = meta.get("protocol")->items;
    if (protocol.size() != 2 || protocol[0].value != kMajor) {
        return {"E_VERSION", "daemon and plugin speak different protocols; update the older one"
                             " and run `audiosr-bridge daemon restart`"};
    }
    minor = static_cast<int64_t>(std::min(protocol[1].value, double(kMinor)));
    version = meta.text_or("version", "");
    const auto lowered = [&meta](const char* name, size_t ours) {
        const int64_t theirs = meta.get("limits")->whole_or(name, 0);
        return theirs > 0 ? std::min(ours, static_cast<size_t>(theirs)) : ours;
    };
    limits = {};
    limits.frame_bytes = lowered("frame_bytes", limits.frame_bytes);
    limits.meta_bytes = lowered("meta_bytes", limits.meta_bytes);

    const std::string session = meta.text_or("session", "");
    const SessionKeys keys = session_keys(to.key, session, nonce, meta.text_or("nonce", ""));
    control.out = {keys.control_up, session}, control.in = {keys.control_down, session};
    work.out = {keys.work_up, session}, work.in = {keys.work_down, session};
    heard_at = ping_at = now_ms();
    process = getpid();
    return {};
}

void Link::Inside::hang_up() {
    is_up = false;
    control.socket.close();
    work.socket.close();
    jobs.clear();
}

void Link::Inside::lose(const std::string& code, const std::string& text, bool retryable) {
    hang_up();
    Event& event = add(Event::lost, "");
    event.code = code, event.text = text, event.retryable = retryable;
}

// ---- what comes

// Whether there may be more to take at once.
bool Link::Inside::pump() {
    const bool was_full = is_full();
    control.socket.flush();
    work.socket.flush();
    has_new_room |= was_full && !is_full();
    const bool more_control = take(control);
    const bool more_work = take(work);
    beat();
    if (events.empty() && is_up && !is_open()) {
        lose("E_NO_DAEMON", kGone, true);
    }
    return more_control || more_work;
}

// As far as the first event, and no further than a burst; whether it was not all.
bool Link::Inside::take(Side& side) {
    Frames frames;
    for (int i = 0; i < kBurst; ++i) {
        if (!events.empty() || !side.socket.receive(frames)) {
            return false;
        }
        Message message;
        const Opened opened = side.in.open(frames, message);
        if (opened == Opened::after_gap) {
            lose("E_SEQUENCE", "messages of the daemon were lost; it is asked again", true);
            return false;
        }
        if (opened != Opened::strange) {
            heard_at = now_ms();
        }
        if (opened == Opened::good) {
            &side == &control ? on_control(message) : on_work(message);
        }
    }
    return true;
}

void Link::Inside::beat() {
    const int64_t now = now_ms();
    if (now >= ping_at && control.socket.unsent() == 0) {
        control.send("ping");
        ping_at = now + kPingMs;
    }
    if (events.empty() && now - heard_at > kDeadMs) {
        lose("E_TIMEOUT", "the daemon has said nothing for 5 s; see `audiosr-bridge daemon status`",
             true);
    }
}

void Link::Inside::on_control(const Message& message) {
    if (message.type == "error" && message.answers < 0) {  // about the session, not a request
        on_error(message);
    }
}

void Link::Inside::on_work(const Message& message) {
    if (message.type == "error") {
        return on_error(message);
    }
    const auto found = jobs.find(message.meta.text_or("job", ""));
    if (found == jobs.end()) {
        return;
    }
    Job& job = found->second;
    if (message.type == "accepted") {
        on_accepted(job, message);
    } else if (message.type == "granted") {
        has_new_room |= job.input_credit < kSampleBytes * job.what.num_channels;
        job.input_credit =
            std::min(job.input_credit + message.meta.whole_or("bytes", 0), kMaxCreditBytes);
    } else if (message.type == "decided") {
        on_decided(job, message);
    } else if (message.type == "partial") {
        on_partial(job, message);
    } else if (message.type == "progress") {
        add(Event::progress, found->first).fraction =
            std::clamp(message.meta.number_or("fraction", 0), 0.0, 1.0);
    } else if (message.type == "final") {
        work.send("close", Meta().text("job", found->first));
        add(Event::final, found->first);
        jobs.erase(found);
    }
}

void Link::Inside::on_error(const Message& message) {
    const Json* flag = message.meta.get("retryable");
    const std::string name = message.meta.text_or("job", "");
    const std::string code = message.meta.text_or("code", "");
    const std::string text = message.meta.text_or("text", "");
    if (name.empty()) {
        return lose(code, text, flag->is_true);
    }
    if (jobs.count(name)) {
        fail(name, code, text, flag->is_true);
    }
}

void Link::Inside::on_accepted(Job& job, const Message& message) {
    if (job.is_accepted) {
        return;
    }
    const int64_t received = message.meta.whole_or("received", 0);
    if (received < job.what.origin) {
        return give_up(job.what.job, "E_PROTOCOL", "the daemon wants another sound than this");
    }
    job.is_accepted = true;
    job.is_complete = message.meta.get("complete")->is_true;
    job.next_in = received;
    job.input_credit = std::min(message.meta.whole_or("credit_bytes", 0), kMaxCreditBytes);
    add(Event::accepted, job.what.job).start = received;
    if (job.is_ending && !job.is_complete) {
        send_audio(job, 0, "", true);
    }
}

void Link::Inside::on_decided(Job& job, const Message& message) {
    Plan plan;
    if (!read_plan(*message.meta.get("plan"), job.what.sample_rate, plan)) {
        return give_up(job.what.job, "E_UNSUPPORTED",
                       "the daemon's plan changes the sample rate, or its chunks cannot be");
    }
    if (job.plan.stride) {  // again, after its worker died
        if (!(plan == job.plan)) {
            give_up(job.what.job, "E_PROTOCOL", "the daemon decided twice, and differently");
        }
        return;
    }
    job.plan = plan;
    Event& event = add(Event::decided, job.what.job);
    event.plan = plan;
    event.model_sha256 = message.meta.text_or("model_sha256", "");
}

// Results go on without a gap from the chunk that is wanted first, and never beyond their input.
bool Link::Inside::Job::is_due(int64_t start, int64_t size) const {
    const int64_t wanted = std::max(what.origin, what.start);
    const bool goes_on = next_out >= 0 ? start == next_out
                                       : start <= wanted && start > wanted - plan.stride;
    return plan.stride && goes_on && size > 0 && size <= next_in - start;
}

void Link::Inside::on_partial(Job& job, const Message& message) {
    const Json& meta = message.meta;
    const int64_t start = meta.whole_or("start", 0), size = meta.whole_or("num_samples", 0);
    if (!is_high_alone(meta.get("parts")) || meta.text_or("dtype", "") != "f4" ||
        meta.whole_or("num_channels", 0) != job.what.num_channels || !job.is_due(start, size)) {
        return give_up(job.what.job, "E_PROTOCOL", "the daemon sent other results than were due");
    }
    job.next_out = start + size;
    Event& event = add(Event::partial, job.what.job);
    event.start = start;
    event.num_samples = size;
    event.high.resize(message.audio.size() / kSampleBytes);
    std::memcpy(event.high.data(), message.audio.data(), message.audio.size());
}

void Link::Inside::wait(int64_t deadline_ms) {
    pollfd both[] = {{control.socket.socket(), control.socket.events(), 0},
                     {work.socket.socket(), work.socket.events(), 0}};
    const int64_t left = std::min(deadline_ms, ping_at) - now_ms();
    poll(both, 2, static_cast<int>(std::max<int64_t>(left, 0)));
}

// ---- what goes

void Link::Inside::send_audio(Job& job, int64_t size, const std::string& audio, bool is_last) {
    Meta meta;
    meta.text("job", job.what.job)
        .whole("start", job.next_in)
        .whole("num_channels", job.what.num_channels)
        .whole("num_samples", size)
        .text("dtype", "f4")
        .flag("last", is_last);
    work.send("audio", meta, &audio);
    job.input_credit -= static_cast<int64_t>(audio.size());
    job.next_in += size;
    job.is_complete = is_last;
}

void Link::Inside::give_back(const Event& event) {
    const auto found = jobs.find(event.job);
    if (event.kind != Event::partial || found == jobs.end()) {
        return;
    }
    Job& job = found->second;
    job.owed += static_cast<int64_t>(event.high.size()) * kSampleBytes;
    if (job.owed > 0 && job.owed >= job.what.credit_bytes / kCreditShare) {
        work.send("credit", Meta().text("job", event.job).whole("bytes", job.owed));
        job.owed = 0;
    }
}

void Link::Inside::give_up(const std::string& job, const char* code, const char* text) {
    control.send("cancel", Meta().text("job", job));
    fail(job, code, text, false);
}

void Link::Inside::fail(const std::string& job, const std::string& code, const std::string& text,
                        bool retryable) {
    Event& event = add(Event::error, job);
    event.code = code, event.text = text, event.retryable = retryable;
    jobs.erase(event.job);  // not `job`, which may be its own
}

Event& Link::Inside::add(Event::Kind kind, const std::string& job) {
    Event& event = events.emplace_back();
    event.kind = kind;
    event.job = job;
    return event;
}

// ---- for the renderer

Link::Link() : inside_(std::make_unique<Inside>()) {}

Link::~Link() { close(); }

bool Link::open(const std::string& runtime_folder, int timeout_ms, const std::atomic<bool>& stop,
                std::string& code, std::string& text) {
    close();
    Connection to;
    Failure failure = read_connection(runtime_folder, to);
    if (failure.code.empty()) {
        failure = inside_->greet(to, now_ms() + timeout_ms, stop);
    }
    code = failure.code, text = failure.text;
    if (!is_open()) {
        inside_->hang_up();
    }
    return is_open();
}

void Link::close() {
    if (is_open() && inside_->process == getpid()) {
        for (const auto& one : inside_->jobs) {  // nobody else knows their names
            inside_->control.send("cancel", Meta().text("job", one.first));
        }
        inside_->control.send("goodbye");
        inside_->control.socket.flush_until(now_ms() + kGoodbyeMs);
    }
    inside_->hang_up();
    inside_->events.clear();
}

bool Link::is_open() const { return inside_->is_open(); }

std::string Link::daemon_version() const { return inside_->version; }

std::string Link::new_name() { return random_hex(); }

bool Link::submit(const Submit& what) {
    if (!is_open()) {
        return false;
    }
    Meta meta;
    meta.text("job", what.job)
        .text("source", "stream")
        .whole("sample_rate", what.sample_rate)
        .whole("num_channels", what.num_channels)
        .text("dtype", "f4")
        .json("settings", what.settings)
        .text("want", "parts")
        .whole("start", what.start)
        .text("priority", what.priority)
        .text("on_disconnect", "hold")
        .whole("credit_bytes", what.credit_bytes);
    if (what.origin) {
        meta.whole("origin", what.origin);
    }
    if (what.live) {
        meta.flag("live", true);
    }
    Inside::Job job;
    job.what = what;
    inside_->jobs[what.job] = job;
    const std::string text = meta.written();
    if ((what.origin || what.live) && inside_->minor < 1) {
        inside_->fail(what.job, "E_VERSION", "the daemon is older than the plugin; update it",
                      false);
    } else if (text.size() > inside_->limits.meta_bytes) {
        inside_->fail(what.job, "E_SETTINGS", "the settings are longer than the daemon takes",
                      false);
    } else {
        inside_->work.send("submit", meta);
    }
    return is_open();
}

int64_t Link::room(const std::string& job) const {
    const auto found = inside_->jobs.find(job);
    if (!is_open() || found == inside_->jobs.end() || !found->second.is_accepted ||
        found->second.is_complete || inside_->is_full()) {
        return 0;
    }
    return found->second.input_credit / (kSampleBytes * found->second.what.num_channels);
}

int64_t Link::send(const std::string& name, int64_t start, const float* const* samples,
                   int64_t n) {
    const auto found = inside_->jobs.find(name);
    if (found == inside_->jobs.end() || start != found->second.next_in) {
        return 0;
    }
    Inside::Job& job = found->second;
    const int64_t sample_bytes = kSampleBytes * job.what.num_channels;
    const int64_t frame_bytes = static_cast<int64_t>(inside_->limits.frame_bytes);
    const int64_t piece = std::min(kPieceBytes, frame_bytes) / sample_bytes;
    int64_t taken = 0;
    std::string audio;
    for (int64_t size; (size = std::min({room(name), piece, n - taken})) > 0;) {
        audio.clear();
        for (int channel = 0; channel < job.what.num_channels; ++channel) {
            audio.append(reinterpret_cast<const char*>(samples[channel] + taken),
                         static_cast<size_t>(size * kSampleBytes));
        }
        inside_->send_audio(job, size, audio, false);
        taken += size;
    }
    return taken;
}

bool Link::end(const std::string& name) {
    const auto found = inside_->jobs.find(name);
    if (found == inside_->jobs.end()) {
        return false;
    }
    Inside::Job& job = found->second;
    if (job.is_accepted && !job.is_complete) {
        inside_->send_audio(job, 0, "", true);
    }
    job.is_ending = true;
    return is_open();
}

void Link::cancel(const std::string& name) {
    inside_->events.remove_if([&name](const Event& one) { return one.job == name; });
    if (inside_->jobs.erase(name) && is_open()) {
        inside_->control.send("cancel", Meta().text("job", name));
    }
}

Event Link::next(int timeout_ms) {
    const int64_t deadline_ms = now_ms() + timeout_ms;
    while (inside_->events.empty() && inside_->is_up) {
        const bool more = inside_->pump();
        const bool has_new_room = std::exchange(inside_->has_new_room, false);
        if (!inside_->events.empty()) {
            break;
        }
        if (has_new_room || now_ms() >= deadline_ms) {
            return {};
        }
        if (!more) {
            inside_->wait(deadline_ms);
        }
    }
    if (inside_->events.empty()) {
        return {};
    }
    Event event = std::move(inside_->events.front());
    inside_->events.pop_front();
    inside_->give_back(event);
    return event;
}

}  // namespace audiosr

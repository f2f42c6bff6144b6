#include "chunks.h"

#include <algorithm>

#include "places.h"
#include "samples.h"

namespace audiosr {
namespace {

constexpr int kMaxTries = 3;
constexpr const char* kTooLong =
    "this model needs more sound ahead of it than the plugin's latency holds";
constexpr int64_t kMostBehindSeconds = 60;  // of rendering; what is more is given up
constexpr size_t kMostWorks = 16;  // at once; the daemon refuses more than 64 jobs of a session
constexpr int kSoonPerSecond = 10;  // a tenth before its end a chunk has to be there

}  // namespace

Chunks::Chunks(const Workplace& at) : at_(at), most_past_(2 * at.latency) {}

Store& Chunks::store() {
    if (!store_)
        store_ = std::make_unique<Store>(cache_folder() + "/plugin", read_config().cache_bytes);
    return *store_;
}

void Chunks::Chunk::fill(const std::vector<float>& whole, int num_channels) {
    const int64_t size = time_end - time, first = from - begin();
    high.clear();
    for (int c = 0; c < num_channels; ++c) {
        const auto channel = whole.begin() + c * plan.stride + first;
        high.insert(high.end(), channel, channel + size);
    }
    state = done;
    job.reset();
}

void Chunks::work() {
    while (correct_plan()) {
    }
    take();
    mend();
    while (cut()) {
    }
    ask();
    send();
    close_unused();
    deliver();
}

int64_t Chunks::needs_from() const {
    const int64_t first = chunks_.empty() ? cursor_ : chunks_.front().time;
    return std::min(first, at_.due()) - most_past_;
}

void Chunks::drop() {
    chunks_.clear();
    for (Work& work : works_) at_.daemon.close(*work.job);
    works_.clear();
    if (probe_) at_.daemon.close(*probe_);
    probe_.reset();
    cursor_ = at_.history.fresh_from();
}

// ---- what has come

void Chunks::take() {
    std::vector<float> whole;
    for (Chunk& chunk : chunks_) {
        if (chunk.state != Chunk::asked || !chunk.job->has_got) continue;
        Job& job = *chunk.job;
        if (job.got_until < chunk.end()) continue;
        if (job.got_from > chunk.begin()) {
            chunk.fail({kFailed, "the daemon left out a part that was asked for"});
            continue;
        }
        job.copy(chunk.begin(), chunk.end(), whole, at_.num_channels);
        job.forget_before(chunk.end(), at_.num_channels);
        num_corrections_ = 0;
        store().keep(chunk.key, at_.num_channels, chunk.plan.stride, whole.data());
        chunk.fill(whole, at_.num_channels);
    }
}

// Jobs that are over: the chunk that came to grief fails, the others are asked for again.
void Chunks::mend() {
    const Job* refused = nullptr;
    for (Chunk& chunk : chunks_) {
        if (chunk.state != Chunk::asked || !chunk.job->is_over) continue;
        const Job& job = *chunk.job;
        const bool is_first = refused != &job;
        refused = &job;
        chunk.state = Chunk::open;
        if (job.retryable ? ++chunk.tries >= kMaxTries : is_first) chunk.fail(job.trouble);
        if (chunk.state == Chunk::open) chunk.job.reset();
    }
}

// A plan from an earlier session may be that of another model: the daemon knows better. True: one
// was wrong, and what was cut by it is to be cut again.
bool Chunks::correct_plan() {
    for (const Work& work : works_) {
        const Job& job = *work.job;
        if (!job.is_decided) continue;
        const auto differs = [&](const Chunk& chunk) {
            return chunk.state == Chunk::asked && chunk.job == work.job &&
                   (!(chunk.plan == job.plan) || chunk.model_sha256 != job.model_sha256);
        };
        const auto first = std::find_if(chunks_.begin(), chunks_.end(), differs);
        if (first == chunks_.end()) continue;
        known_[first->plan_key] = {job.plan, job.model_sha256};
        store().keep_plan(first->plan_key, at_.sample_rate, at_.num_channels, job.plan,
                         job.model_sha256);
        if (++num_corrections_ > kMaxTries) {
            for (Chunk& chunk : chunks_)
                if (differs(chunk)) chunk.fail({kFailed, "the daemon does not hold to its plan"});
        } else {
            cursor_ = std::max(first->time, at_.delivery.until());
            chunks_.erase(first, chunks_.end());
        }
        return true;
    }
    return false;
}

// ---- cutting

bool Chunks::fits(const Plan& plan) const {
    return std::max(plan.first_end, plan.stride) <= at_.latency && plan.past <= most_past_;
}

bool Chunks::find_known(const std::string& key, Known& known) {
    const auto found = known_.find(key);
    if (found != known_.end()) {
        known = found->second;
        return true;
    }
    if (!store().find_plan(key, at_.sample_rate, at_.num_channels, known.plan,
                          known.model_sha256) ||
        !known.plan.is_possible(at_.sample_rate) || !fits(known.plan))  // today's may be another
        return false;
    known_[key] = known;
    return true;
}

// The next chunk whose input is there; false if there is none.
bool Chunks::cut() {
    const History& history = at_.history;
    if (history.is_empty() || cursor_ >= history.end()) return false;
    const Segment& segment = history.segment_at(cursor_);
    const int64_t segment_end = history.end_of(segment);
    const int64_t known_end = std::min(segment_end, history.end());

    if (segment.lost) {
        Chunk lost;
        lost.time = cursor_;
        lost.time_end = cursor_ = known_end;
        lost.state = Chunk::done;
        lost.found = Found::late;
        chunks_.push_back(lost);
        return true;
    }
    if (history.last().offline && !history.last().wanted) {
        const int64_t until = std::min(known_end, at_.due());
        if (until <= cursor_) return false;
        Chunk unwanted;
        unwanted.time = cursor_;
        unwanted.time_end = cursor_ = until;
        unwanted.state = Chunk::done;
        unwanted.is_silent = true;
        chunks_.push_back(unwanted);
        return true;
    }
    const Render render = history.render_at(cursor_);
    if (history.first_sound() == kNever) return cut_without_plan(segment, segment_end, render);
    if (!at_.is_awake() && at_.due() <= cursor_) return false;
    const std::string preset = at_.presets.get(render.preset).settings;
    const std::string plan_key = settings_text(preset, plan_render(render));
    Known known;
    if (!find_known(plan_key, known)) return cut_without_plan(segment, segment_end, render);
    if (!fits(known.plan)) {
        if (std::min(known_end, at_.due()) <= cursor_) return false;
        fail_planless(known_end, {kUnsupported, kTooLong});
        return true;
    }

    const Plan& plan = known.plan;
    const int64_t index = segment.place_of(cursor_) / plan.stride;
    const int64_t time_end = std::min(segment.time_of((index + 1) * plan.stride), segment_end);
    const int64_t needed = segment.time_of(index * plan.stride + plan.first_end);
    if (history.end() < std::min(needed, segment_end)) return false;
    cut_chunk(segment, time_end, index, known, render, plan_key);
    return true;
}

void Chunks::cut_chunk(const Segment& segment, int64_t time_end, int64_t index, const Known& known,
                       const Render& render, const std::string& plan_key) {
    Chunk chunk;
    chunk.segment = segment.id;
    chunk.index = index;
    chunk.time = cursor_;
    chunk.time_end = time_end;
    chunk.from = segment.place_of(cursor_);
    chunk.plan = known.plan;
    chunk.plan_key = plan_key;
    chunk.model_sha256 = known.model_sha256;
    chunk.preset = render.preset;
    chunk.settings = settings_text(at_.presets.get(render.preset).settings, render);
    cursor_ = time_end;

    std::vector<float> input, whole;
    at_.history.copy(segment, chunk.input_begin(), chunk.input_end(), input);
    if (is_silent(input)) {
        chunk.state = Chunk::done;
        chunk.is_silent = true;
    } else if (!is_finite(input)) {
        chunk.fail({kFailed, "the input is not a number or infinite"});
    } else {
        const float* channels[kMaxChannels] = {};
        const int64_t size = chunk.input_end() - chunk.input_begin();
        for (int c = 0; c < at_.num_channels; ++c) channels[c] = input.data() + c * size;
        chunk.key = Store::key(chunk.settings, chunk.model_sha256, at_.sample_rate,
                               at_.num_channels, chunk.plan, index, channels);
        if (store().find(chunk.key, at_.num_channels, chunk.plan.stride, whole) &&
            is_sound(whole)) {
            chunk.fill(whole, at_.num_channels);
            chunk.is_cached = true;
        } else if (!chunks_.empty() && !at_.history.last().offline &&
                   chunk.time - chunks_.front().time > kMostBehindSeconds * at_.sample_rate) {
            chunk.state = Chunk::done;
            chunk.found = Found::late;
        }
    }
    chunks_.push_back(std::move(chunk));
}

// Before there was any sound there is nothing to add; then the daemon has to say how chunks lie.
bool Chunks::cut_without_plan(const Segment& segment, int64_t segment_end, const Render& render) {
    const int64_t known_end = std::min(segment_end, at_.history.end());
    const bool is_quiet = segment.first_sound == kNever;
    const int64_t until = segment_end == kNever || !is_quiet ? at_.due() : segment_end;
    if (is_quiet || !at_.is_awake()) {
        if (until <= cursor_) return false;
        Chunk chunk;
        chunk.time = cursor_;
        chunk.time_end = cursor_ = std::min(until, known_end);
        chunk.state = Chunk::done;
        chunk.is_silent = is_quiet;
        chunk.found = is_quiet ? Found::wet : Found::late;
        chunks_.push_back(chunk);
        return true;
    }
    const std::string preset = at_.presets.get(render.preset).settings;
    return probe(settings_text(preset, plan_render(render)), segment.place_of(cursor_));
}

// True: there is something new, a plan or a failure.
bool Chunks::probe(const std::string& key, int64_t place) {
    if (!probe_) {
        switch (at_.daemon.reach(at_.history.last().offline)) {
            case Daemon::Reach::open: break;
            case Daemon::Reach::soon:
                if (at_.daemon.is_starting()) at_.report.tell(kStarting);
                return false;
            case Daemon::Reach::gone:
                fail_planless(at_.history.end(), at_.daemon.trouble());
                return true;
        }
        probe_ = at_.daemon.submit(key, place, place);
        at_.daemon.await(*probe_, true);
        at_.report.tell(kStarting);
    }
    const std::shared_ptr<Job> job = probe_;
    if (!job->is_decided && !job->is_over) return false;
    probe_.reset();
    at_.daemon.close(*job);
    if (job->is_decided) {
        num_probes_ = 0;
        if (!fits(job->plan)) log_line(kTooLong);
        known_[key] = {job->plan, job->model_sha256};
        store().keep_plan(key, at_.sample_rate, at_.num_channels, job->plan, job->model_sha256);
    } else if (!job->retryable || ++num_probes_ >= kMaxTries) {
        num_probes_ = 0;
        fail_planless(at_.history.end(), job->trouble);
    }
    return true;
}

// What is due, and the second that it is in, cannot be had.
void Chunks::fail_planless(int64_t limit, const Trouble& why) {
    const Segment& segment = at_.history.segment_at(cursor_);
    limit = std::min({limit, at_.history.end(), at_.history.end_of(segment)});
    do {
        Chunk chunk;
        chunk.time = cursor_;
        chunk.time_end = cursor_ = std::min(at_.second_after(cursor_), limit);
        chunk.fail(why);
        chunks_.push_back(chunk);
    } while (cursor_ < std::min(limit, at_.due()));
}

// ---- asking

void Chunks::ask() {
    if (!at_.is_awake()) return;
    for (Chunk& chunk : chunks_) {
        if (chunk.state != Chunk::open) continue;
        switch (at_.daemon.reach(at_.history.last().offline)) {
            case Daemon::Reach::open:
                if (!assign(chunk)) return;
                break;
            case Daemon::Reach::soon:
                if (at_.daemon.is_starting()) at_.report.tell(kStarting);
                return;
            case Daemon::Reach::gone: chunk.fail(at_.daemon.trouble()); break;
        }
    }
}

// False: earlier chunks have all the jobs that there may be.
bool Chunks::assign(Chunk& chunk) {
    const auto goes_on = [&](const Work& work) {
        return !work.job->is_over && work.segment == chunk.segment &&
               work.settings == chunk.settings && work.plan == chunk.plan &&
               chunk.input_begin() <= work.until && chunk.input_end() > work.until;
    };
    if (works_.empty() || !goes_on(works_.back())) {
        if (works_.size() >= kMostWorks) return false;
        Work work;
        work.segment = chunk.segment;
        work.settings = chunk.settings;
        work.plan = chunk.plan;
        work.job = at_.daemon.submit(chunk.settings, std::max<int64_t>(chunk.input_begin(), 0),
                                      chunk.begin());
        works_.push_back(work);
    }
    works_.back().until = chunk.input_end();
    chunk.job = works_.back().job;
    chunk.state = Chunk::asked;
    const Status now = at_.report.status();
    if (now != kWet && now != kCached && now != kModelChanged) at_.report.tell(kRendering);
    return true;
}

void Chunks::send() {
    std::vector<float> input;
    for (Work& work : works_) {
        Job& job = *work.job;
        const Segment* segment = at_.history.segment(work.segment);
        const int64_t size = std::min(work.until - job.sent, at_.daemon.room(job));
        if (job.is_over || !segment || size <= 0) continue;
        at_.history.copy(*segment, job.sent, job.sent + size, input);
        at_.daemon.send(job, input, size);
    }
}

bool Chunks::is_used(const Job& job) const {
    return std::any_of(chunks_.begin(), chunks_.end(), [&](const Chunk& chunk) {
        return chunk.state == Chunk::asked && chunk.job.get() == &job;
    });
}

void Chunks::close_unused() {
    for (size_t i = 0; i < works_.size();) {
        Job& job = *works_[i].job;
        const bool is_needed = is_used(job);
        at_.daemon.await(job, is_needed);
        const bool may_go_on = i + 1 == works_.size() && !job.is_over;
        if (is_needed || may_go_on) {
            ++i;
            continue;
        }
        at_.daemon.close(job);
        works_.erase(works_.begin() + static_cast<int64_t>(i));
    }
}

// ---- delivering

void Chunks::deliver() {
    for (Chunk& chunk : chunks_) {
        const bool is_done = chunk.state == Chunk::done;
        if (!is_done && !chunk.is_delivered && !is_too_late(chunk)) break;
        if (is_done) tell_done(chunk);  // first: whoever waits for it may look at once
        if (!chunk.is_delivered && !hand_over(chunk)) break;
        chunk.is_delivered = true;
    }
    const auto is_over = [](const Chunk& chunk) {
        return chunk.is_delivered && chunk.state == Chunk::done;
    };
    chunks_.erase(std::remove_if(chunks_.begin(), chunks_.end(), is_over), chunks_.end());
    at_.report.set_progress(chunks_.empty() ? 1 : at_.daemon.progress());
}

// Nobody waits, and it is being played without; a little before its end, for the next one's sake.
bool Chunks::is_too_late(const Chunk& chunk) const {
    return !at_.history.last().offline && chunk.time < at_.due() &&
           chunk.time_end <= at_.due() + at_.sample_rate / kSoonPerSecond;
}

// False: there is no room now.
bool Chunks::hand_over(const Chunk& chunk) {
    const Found found = chunk.state == Chunk::done ? chunk.found : Found::late;
    const bool has_samples = found == Found::wet && !chunk.is_silent;
    const uint32_t number = chunk.is_silent ? 0 : at_.delivery.new_chunk();
    return at_.delivery.push(chunk.time_end, found, number,
                             has_samples ? chunk.high.data() : nullptr);
}

void Chunks::tell_done(const Chunk& chunk) {
    if (chunk.is_silent) return;
    if (chunk.found == Found::failed) at_.report.tell(chunk.trouble);
    if (chunk.found != Found::wet) return;
    const std::string& wanted = at_.presets.get(chunk.preset).model_sha256;
    at_.report.rendered_by(model_name(chunk.settings), chunk.model_sha256);
    if (!wanted.empty() && wanted != chunk.model_sha256)
        at_.report.tell(kModelChanged);
    else
        at_.report.tell(chunk.is_cached ? kCached : kWet);
}

}  // namespace audiosr

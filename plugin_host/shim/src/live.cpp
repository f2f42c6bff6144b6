#include "live.h"

#include <algorithm>

#include "samples.h"

namespace audiosr {
namespace {

constexpr int kMaxTries = 3;
constexpr int64_t kStepsAtOnce = 2;  // ten milliseconds; each message is work for the daemon

}  // namespace

void Live::close() {
    if (job_) at_.daemon.close(*job_);
    job_.reset();
}

void Live::drop() {
    close();
    tries_ = 0;
}

int64_t Live::needs_from() const { return cursor() - at_.sample_rate; }

// Counted by the second, for there are no chunks.
bool Live::push(int64_t until, Found found, const float* planar) {
    const int64_t second = cursor() / at_.sample_rate;
    if (second != second_) number_ = at_.delivery.new_chunk();
    second_ = second;
    return at_.delivery.push(until, found, number_, planar);
}

void Live::work() {
    const History& history = at_.history;
    if (history.is_empty() || cursor() >= history.end()) return;
    const Segment& segment = history.segment_at(cursor());
    const int64_t segment_end = history.end_of(segment);
    const int64_t known_end = std::min(segment_end, history.end());
    const bool waits = history.last().offline;
    const int64_t due = std::min(known_end, at_.due());

    if (segment.lost) {
        push(known_end, Found::late);
        return;
    }
    if (waits && !history.last().wanted) {
        at_.delivery.push_silence(due);
        close();
        return;
    }
    if (segment.first_sound == kNever) {
        at_.delivery.push_silence(segment_end == kNever ? due : segment_end);
        return;
    }
    if (!at_.is_awake() || (!waits && cursor() < at_.due() - at_.sample_rate)) {
        push(due, Found::late);
        return;
    }
    const Render render = history.render_at(cursor());
    const std::string settings = settings_text(at_.presets.get(render.preset).settings, render);
    if (job_ && (segment_ != segment.id || settings_ != settings)) close();
    if (job_ && job_->is_over) {
        const Trouble trouble = job_->trouble;
        const bool again = job_->retryable && ++tries_ < kMaxTries;
        close();
        if (!again) {
            tries_ = 0;
            at_.report.tell(trouble);
            push(std::min(known_end, std::max(due, at_.second_after(cursor()))), Found::failed);
            return;
        }
    }
    settings_ = settings;
    // While a model loads time goes on, and what is past by then nobody wants: begin anew.
    if (job_ && !waits && segment.place_of(cursor()) - opened_at_ > at_.sample_rate &&
        job_->got_until < segment.place_of(cursor()) - at_.sample_rate / 2)
        is_stale_ = true;
    if (job_ && is_stale_ && job_->is_decided) close();
    if (!job_ && !open(segment)) return;
    if (waits || job_->is_decided) send(segment, segment_end);
    while (take(segment, known_end)) {
    }
    if (!job_) return;
    const bool owes = job_->sent > segment.place_of(cursor()) + at_.latency;
    at_.daemon.await(*job_, owes || !job_->is_decided);
}

bool Live::open(const Segment& segment) {
    const int64_t end = std::min(at_.history.end_of(segment), at_.history.end());
    const int64_t due = std::min(end, at_.due());
    switch (at_.daemon.reach(at_.history.last().offline)) {
        case Daemon::Reach::open: break;
        case Daemon::Reach::soon:
            if (at_.daemon.is_starting()) at_.report.tell(kStarting);
            if (!at_.history.last().offline) push(due, Found::late);
            return false;
        case Daemon::Reach::gone:
            at_.report.tell(at_.daemon.trouble());
            push(std::min(end, std::max(due, at_.second_after(cursor()))), Found::failed);
            return false;
    }
    const int64_t place = segment.place_of(cursor());
    const int64_t origin =
        std::max(segment.place_of(segment.kept_from), place - at_.sample_rate / 2);
    job_ = at_.daemon.submit(settings_, origin, place);
    opened_at_ = place;
    is_stale_ = false;
    segment_ = segment.id;
    at_.report.tell(kRendering);
    return true;
}

// What plays on goes by whole steps, for less settles nothing, and several at once, for each message
// is work.
int64_t Live::sendable(int64_t end, bool plays_on) const {
    const int64_t size = std::min(end - job_->sent, at_.daemon.room(*job_));
    const int64_t step = job_->plan.stride;
    if (!plays_on || step == 0) return size;
    const int64_t whole = (job_->sent + size) / step * step - job_->sent;
    return whole >= kStepsAtOnce * step ? whole : 0;
}

// What came, and after the end of a segment the silence that brings its rest.
void Live::send(const Segment& segment, int64_t segment_end) {
    const int64_t end = segment_end == kNever ? segment.place_of(at_.history.end())
                                              : segment.place_of(segment_end) + at_.latency;
    const int64_t size = sendable(end, segment_end == kNever && !at_.history.last().offline);
    if (size <= 0) return;
    std::vector<float> input;
    at_.history.copy(segment, job_->sent, job_->sent + size, input);
    if (is_finite(input)) {
        at_.daemon.send(*job_, input, size);
    } else {
        close();
        at_.report.tell(kFailed, "the input is not a number or infinite");
        push(std::min(segment_end, at_.history.end()), Found::failed);
    }
}

bool Live::take(const Segment& segment, int64_t known_end) {
    if (!job_ || !job_->has_got) return false;
    const int64_t from = segment.place_of(cursor());
    const int64_t limit = std::min(known_end, at_.second_after(cursor()));
    const int64_t until = std::min(job_->got_until, segment.place_of(limit));
    if (until <= from) return false;
    if (job_->got_from > from)
        return push(std::min(limit, segment.time_of(job_->got_from)), Found::late);
    std::vector<float> planar;
    job_->copy(from, until, planar, at_.num_channels);
    if (!push(segment.time_of(until), Found::wet, planar.data())) return false;
    job_->forget_before(until, at_.num_channels);
    tries_ = 0;
    at_.report.rendered_by(model_name(settings_), job_->model_sha256);
    at_.report.tell(kWet);
    return true;
}

}  // namespace audiosr

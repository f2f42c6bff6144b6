#include "effect.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "bell.h"
#include "clock.h"
#include "delivery.h"
#include "mixer.h"
#include "pace.h"
#include "playback.h"
#include "queues.h"
#include "renderer.h"
#include "settings.h"
#include "song.h"
#include "state.h"

namespace audiosr {
namespace {

constexpr int64_t kStep = 4096;        // what is worked on at once
constexpr double kFeedSeconds = 4.0;   // the renderer may be away for so long
constexpr double kGlideSeconds = 0.02, kFadeSeconds = 0.005;
constexpr int kWaitMs = 100;

bool is_real_time_thread() {
    int policy = 0;
    struct sched_param parameters;
    return ::pthread_getschedparam(::pthread_self(), &policy, &parameters) == 0 &&
           (policy == SCHED_FIFO || policy == SCHED_RR);
}

// Exactly so many samples late.
class DelayLine {
  public:
    void prepare(int64_t num_samples) {
        samples_.assign(static_cast<size_t>(num_samples), 0.0f);
        at_ = 0;
    }
    void process(const float* in, float* out, int64_t size) {
        const int64_t length = static_cast<int64_t>(samples_.size());
        while (size > 0) {
            const int64_t run = std::min(size, length - at_);
            float* kept = samples_.data() + at_;
            for (int64_t i = 0; i < run; ++i) {
                const float x = in[i];
                out[i] = kept[i];
                kept[i] = x;
            }
            at_ = (at_ + run) % length;
            in += run;
            out += run;
            size -= run;
        }
    }

  private:
    std::vector<float> samples_;
    int64_t at_ = 0;
};

}  // namespace

struct Effect::Inside {
    explicit Inside(const Profile& effect_profile) : profile(effect_profile) {
        for (uint32_t id = 0; id < kNumParameters; ++id) values[id] = parameter(id).initial;
        preset = presets.add(Preset());
    }

    double value(uint32_t id) const { return values[id].load(std::memory_order_relaxed); }
    int choice(uint32_t id) const { return static_cast<int>(value(id)); }
    Status status() const;

    void begin();  // [main] or [audio]
    void process(const float* const* in, float* const* out, int64_t n, const Transport& transport);
    void step(const float* const* in, float* const* out, int64_t n);
    bool wants_to_wait(int64_t n);
    bool push(const Block& block, const float* const* in);
    template <typename Condition>
    bool wait(Condition there);
    void turn_gains(bool at_once);
    void play(float* const* out, int64_t n);
    void show(const Run& run, int64_t offset, float* const* out);

    // ---- of anybody
    const Profile& profile;
    std::atomic<double> values[kNumParameters];
    std::atomic<bool> offline{false}, active{false}, processing{false}, is_late{false};
    std::atomic<uint32_t> preset{0};
    Presets presets;
    Report report;

    // ---- of [main]
    State carried;  // what the session was saved with
    std::unique_ptr<Renderer> renderer;

    // ---- between the threads
    Feed feed;
    Wet wet;
    Bell to_renderer, to_audio;

    // ---- of [audio]
    std::atomic<int> num_channels{0};  // atomic for hosts that activate beside `process`
    int64_t latency = 0, glide = 1;
    int64_t time = 0;         // of the next input sample
    int64_t fresh_from = 0;   // of the first one after the last reset
    uint32_t fresh_segment = 0;
    bool waits = false, is_quiet = true, was_lost = false;
    Pace pace;
    Song song;
    Playback playback{wet};
    DelayLine lines[kMaxChannels];
    std::vector<float> dry[kMaxChannels], high[kMaxChannels], share;
    Glide dry_gain[kMaxChannels], wet_gain[kMaxChannels];
};

Effect::Effect(const Profile& profile)
    : profile_(profile), inside_(std::make_unique<Inside>(profile)) {}

Effect::~Effect() { deactivate(); }

bool Effect::activate(double sample_rate, int num_channels) {
    deactivate();
    if (!(sample_rate >= kMinRate && sample_rate <= kMaxRate)) return false;
    if (num_channels < 1 || num_channels > kMaxChannels) return false;
    Inside& my = *inside_;
    const auto of_seconds = [&](double s) { return static_cast<int64_t>(s * sample_rate); };
    my.num_channels = num_channels;
    my.latency = latency(sample_rate);
    my.glide = of_seconds(kGlideSeconds);
    my.feed.prepare(num_channels, of_seconds(kFeedSeconds) + kStep);
    my.wet.prepare(num_channels, 2 * my.latency + of_seconds(2));
    my.playback.prepare(num_channels, of_seconds(kFadeSeconds));
    for (int c = 0; c < num_channels; ++c) {
        my.lines[c].prepare(my.latency);
        my.dry[c].assign(kStep, 0.0f);
        my.high[c].assign(kStep, 0.0f);
    }
    my.share.assign(kStep, 1.0f);
    my.song.activate(sample_rate);
    my.pace.reset(sample_rate);
    my.time = 0;
    my.begin();
    my.report.tell(kIdle);
    my.renderer = std::make_unique<Renderer>(RendererPlace{
        profile_, static_cast<int>(std::lround(sample_rate)), num_channels, my.latency, my.presets,
        my.feed, my.wet, my.to_renderer, my.to_audio, my.report});
    if (!my.renderer->is_running()) {
        my.renderer.reset();
        return false;
    }
    my.active = true;
    return true;
}

// A `process` that is under way sees it within one step, or is rung out of its wait.
void Effect::deactivate() {
    Inside& my = *inside_;
    my.active = false;
    if (my.renderer && my.renderer->is_forked()) {  // what the other threads held nobody releases
        my.processing = false;
        my.to_renderer.renew();
        my.to_audio.renew();
    }
    while (my.processing) {
        my.to_audio.ring();
        ::sched_yield();
    }
    my.renderer.reset();
}

void Effect::reset() {
    Inside& my = *inside_;
    my.song.begin();
    my.begin();
}

// From here on: silence until the latency is over, and nothing of what was.
void Effect::Inside::begin() {
    fresh_from = time;
    fresh_segment = song.segment();
    is_quiet = true;
    was_lost = false;
    is_late = false;
    playback.reset(time);
    turn_gains(true);
}

void Effect::set(uint32_t id, double plain) {
    if (id >= kFirstOutput) return;
    inside_->values[id].store(clamped(id, plain), std::memory_order_relaxed);
}

double Effect::get(uint32_t id) const {
    const Inside& my = *inside_;
    switch (id) {
        case kState: return my.status();
        case kProgress: return my.report.progress();
        case kChunksWet: return my.playback.count(Found::wet);
        case kChunksDry: return my.playback.count(Found::late);
        case kChunksFailed: return my.playback.count(Found::failed);
        default: return id < kNumParameters ? my.value(id) : 0;
    }
}

Status Effect::Inside::status() const {
    const Status said = report.status();
    if (said >= kLate) return said;
    // A pass that has a hole is not "wet" again behind it: that would be told to nobody.
    if (playback.count(Found::failed) > 0) return kFailed;
    return is_late ? kLate : said;
}

void Effect::set_offline(bool offline) { inside_->offline = offline; }

void Effect::process(const float* const* in, float* const* out, int64_t n,
                     const Transport& transport) {
    Inside& my = *inside_;
    my.processing = true;
    if (my.active) {
        my.process(in, out, n, transport);
    } else {
        for (int c = 0; c < my.num_channels; ++c) std::fill_n(out[c], n, 0.0f);
    }
    my.processing = false;
}

void Effect::Inside::process(const float* const* in, float* const* out, int64_t n,
                             const Transport& transport) {
    song.follow(transport);
    waits = wants_to_wait(n);
    turn_gains(false);
    const float* from[kMaxChannels] = {};
    float* to[kMaxChannels] = {};
    for (int64_t done = 0; done < n; done += kStep) {
        for (int c = 0; c < num_channels; ++c) {
            from[c] = in[c] + done;
            to[c] = out[c] + done;
        }
        step(from, to, std::min(kStep, n - done));
    }
}

bool Effect::Inside::wants_to_wait(int64_t n) {
    const bool is_ahead = pace.is_ahead(now_ns(), n);
    switch (choice(kRenderMode)) {
        case kWait: return true;
        case kNeverWait: return false;
        default: return offline || (is_ahead && !is_real_time_thread());
    }
}

void Effect::Inside::turn_gains(bool at_once) {
    const bool bypass = value(kBypass) != 0, delta = value(kDelta) != 0;
    const double wanted_dry = delta && !bypass ? 0 : 1;
    const double wanted_wet = bypass ? 0 : value(kMix) * std::pow(10.0, value(kGainHf) / 20);
    for (int c = 0; c < num_channels; ++c) {
        if (at_once) {
            dry_gain[c].snap(wanted_dry);
            wet_gain[c].snap(wanted_wet);
        } else {
            dry_gain[c].turn_to(wanted_dry, glide);
            wet_gain[c].turn_to(wanted_wet, glide);
        }
    }
}

// False: the effect is being deactivated, or nothing will ever come.
template <typename Condition>
bool Effect::Inside::wait(Condition there) {
    if (there()) return true;
    if (renderer->is_dead()) return false;
    const int64_t began = now_ns();
    to_renderer.ring();
    while (!there() && active && !renderer->is_dead())
        to_audio.wait(kWaitMs, [&] { return there() || !active || renderer->is_dead(); });
    pace.excuse(now_ns() - began);
    return there();
}

bool Effect::Inside::push(const Block& block, const float* const* in) {
    if (waits) wait([&] { return feed.has_room(block.size); });
    return feed.push(block, in);
}

void Effect::Inside::step(const float* const* in, float* const* out, int64_t n) {
    const bool is_bypassed =
        value(kBypass) != 0 && dry_gain[0].is_still() && wet_gain[0].is_still();
    if (was_lost) song.new_segment();
    Block block;
    block.time = time;
    block.place = song.place();
    block.segment = song.segment();
    block.size = n;
    block.offline = waits;
    block.wanted = !(waits && is_bypassed);
    block.fresh = block.segment == fresh_segment;
    block.render.ceiling_hz = value(kCeiling);
    block.render.cutoff_hz = value(kCutoff);
    block.render.seed = static_cast<uint32_t>(value(kSeed));
    block.render.model = static_cast<uint32_t>(value(kModel));
    block.render.preset = preset.load(std::memory_order_relaxed);
    was_lost = !push(block, in);

    for (int c = 0; c < num_channels; ++c) {
        for (int64_t i = 0; is_quiet && i < n; ++i) is_quiet = in[c][i] == 0;
        lines[c].process(in[c], dry[c].data(), n);
        const int64_t silent = std::clamp<int64_t>(fresh_from + latency - time, 0, n);
        std::fill_n(dry[c].data(), silent, 0.0f);
    }
    const int64_t needed = time - latency + n;
    if (waits && !is_quiet && !is_bypassed && needed > fresh_from)
        wait([&] { return wet.resolved_until() >= needed; });
    play(out, n);
    time += n;
    song.advance(n);
}

void Effect::Inside::play(float* const* out, int64_t n) {
    float* to[kMaxChannels] = {};
    bool late = false;
    for (int64_t done = 0; done < n;) {
        for (int c = 0; c < num_channels; ++c) to[c] = high[c].data() + done;
        const bool counts = value(kBypass) == 0;
        Run run;
        run.size = n - done;
        if (is_quiet)
            playback.discard_before(time - latency);
        else
            run = playback.read(time - latency + done, n - done, waits, counts, to,
                                share.data() + done);
        late = late || (run.kind == Run::late && counts);
        show(run, done, out);
        done += run.size;
    }
    is_late.store(late, std::memory_order_relaxed);
}

void Effect::Inside::show(const Run& run, int64_t offset, float* const* out) {
    const bool is_hole = run.kind == Run::failed || run.kind == Run::late;
    const bool is_silenced =
        waits && is_hole && choice(kFailure) == kSilence && value(kBypass) == 0;
    for (int c = 0; c < num_channels; ++c) {
        mix(dry_gain[c], wet_gain[c], dry[c].data() + offset,
            run.has_samples ? high[c].data() + offset : nullptr, share.data() + offset,
            out[c] + offset, run.size);
        if (is_silenced) std::fill_n(out[c] + offset, run.size, 0.0f);
    }
}

int64_t Effect::ahead() const {
    const Inside& my = *inside_;
    return my.wet.resolved_until() - (my.time - my.latency);
}

std::string Effect::save() const {
    const Inside& my = *inside_;
    State state = my.carried;
    for (uint32_t id = 0; id < kFirstOutput; ++id) state.values[id] = my.value(id);
    std::string text, model, sha256;
    my.report.read(text, model, sha256);
    if (!model.empty()) {
        state.model = model;
        state.model_sha256 = sha256;
    }
    return write_state(state);
}

bool Effect::load(const char* text, size_t size) {
    Inside& my = *inside_;
    State state;
    if (!read_state(text, size, state)) return false;
    for (uint32_t id = 0; id < kFirstOutput; ++id) set(id, state.values[id]);
    my.preset = my.presets.add({state.settings, state.model_sha256});
    my.carried = state;
    return true;
}

std::string Effect::status_text() const {
    const Inside& my = *inside_;
    std::string text, model, sha256;
    my.report.read(text, model, sha256);
    if (!text.empty() && my.status() == my.report.status()) return text;
    char sentence[128];
    text_of(kState, my.status(), sentence, sizeof sentence);
    return sentence;
}

}  // namespace audiosr

// An effect that needs no daemon, for tests of the formats alone. What it generates is the
// original once more; it does so where it would wait. Knobs act at once, without smoothing.
//
//     chunks_wet      calls of `process`
//     chunks_dry      where the song was at the last of them, 0 if nobody knew
//     chunks_failed   the largest block
//     progress        1 where the host said that it renders offline
#include <algorithm>
#include <vector>

#include "effect.h"
#include "state.h"

namespace audiosr {

struct Effect::Inside {
    std::atomic<double> values[kNumParameters];
    std::atomic<bool> offline{false};
    State state;
    int num_channels = 0;
    int64_t at = 0;
    std::vector<float> line[kMaxChannels];
};

Effect::Effect(const Profile& profile) : profile_(profile), inside_(new Inside) {
    for (uint32_t id = 0; id < kNumParameters; ++id) inside_->values[id] = parameter(id).initial;
}

Effect::~Effect() = default;

bool Effect::activate(double sample_rate, int num_channels) {
    if (!(sample_rate >= kMinRate && sample_rate <= kMaxRate)) return false;
    if (num_channels < 1 || num_channels > kMaxChannels) return false;
    inside_->num_channels = num_channels;
    for (auto& line : inside_->line)
        line.assign(static_cast<size_t>(latency(sample_rate)), 0.0f);
    inside_->at = 0;
    return true;
}

void Effect::deactivate() { inside_->num_channels = 0; }

void Effect::reset() {
    for (auto& line : inside_->line) std::fill(line.begin(), line.end(), 0.0f);
}

void Effect::set(uint32_t id, double plain) { inside_->values[id] = clamped(id, plain); }
double Effect::get(uint32_t id) const { return inside_->values[id]; }
void Effect::set_offline(bool offline) { inside_->offline = offline; }

void Effect::process(const float* const* in, float* const* out, int64_t n,
                     const Transport& transport) {
    const bool waits = get(kRenderMode) == kWait || (get(kRenderMode) == kAuto && inside_->offline);
    const float gain = waits && get(kBypass) == 0 ? static_cast<float>(get(kMix)) : 0;
    for (int c = 0; c < inside_->num_channels; ++c) {
        auto& line = inside_->line[c];
        for (int64_t i = 0; i < n; ++i) {
            float& place = line[static_cast<size_t>(inside_->at + i) % line.size()];
            const float dry = place;
            place = in[c][i];
            out[c][i] = dry + gain * dry;
        }
    }
    inside_->at += n;
    inside_->values[kState] = waits ? kWet : kLate;
    inside_->values[kProgress] = inside_->offline;
    inside_->values[kChunksWet] = get(kChunksWet) + 1;
    inside_->values[kChunksDry] = transport.known ? static_cast<double>(transport.sample) : 0;
    inside_->values[kChunksFailed] = std::max(get(kChunksFailed), static_cast<double>(n));
}

std::string Effect::save() const {
    State state = inside_->state;
    for (uint32_t id = 0; id < kNumParameters; ++id) state.values[id] = get(id);
    return write_state(state);
}

bool Effect::load(const char* text, size_t size) {
    if (!read_state(text, size, inside_->state)) return false;
    for (uint32_t id = 0; id < kFirstOutput; ++id) set(id, inside_->state.values[id]);
    return true;
}

std::string Effect::status_text() const { return "A sentence of the effect's own."; }

}  // namespace audiosr

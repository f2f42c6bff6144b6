// The plugin as CLAP: for each profile one with one channel and one with two.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "clap_abi.h"
#include "front.h"
#include "state.h"

namespace audiosr::clap {
namespace {

constexpr const char* kFeatures[][4] = {{"audio-effect", "restoration", "mono", nullptr},
                                        {"audio-effect", "restoration", "stereo", nullptr}};
constexpr const char* kLayouts[] = {"mono", "stereo"};
constexpr char kUrl[] = "";

constexpr Descriptor described(const Variant& v) {
    return {kClapVersion, v.clap_id,      v.name, kVendor, kUrl, kUrl,
            kUrl,         kPluginVersion, kAbout, kFeatures[v.num_channels - 1]};
}

constexpr Descriptor kDescriptors[] = {described(kVariants[0]), described(kVariants[1]),
                                       described(kVariants[2]), described(kVariants[3])};
static_assert(sizeof(kDescriptors) / sizeof(kDescriptors[0]) == kNumVariants);

struct Instance {
    Instance(int variant, const Plugin& functions)
        : plugin(functions),
          effect(kVariants[variant].profile),
          num_channels(kVariants[variant].num_channels) {
        plugin.descriptor = &kDescriptors[variant];
        plugin.data = this;
    }

    Plugin plugin;
    Effect effect;
    Outputs outputs;
    Transport transport;  // [audio] at the next sample
    const int num_channels;
    double rate = 48000;
    bool is_active = false;
};

Instance& self(const Plugin* plugin) { return *static_cast<Instance*>(plugin->data); }

// Audio ports [main]

uint32_t count_ports(const Plugin*, bool) { return 1; }

bool describe_port(const Plugin* plugin, uint32_t index, bool is_input, AudioPortInfo* info) {
    if (index != 0) return false;
    const int num_channels = self(plugin).num_channels;
    *info = {};
    std::snprintf(info->name, sizeof info->name, "%s", is_input ? "Input" : "Output");
    info->flags = kMainPort;
    info->num_channels = static_cast<uint32_t>(num_channels);
    info->type = kLayouts[num_channels - 1];
    return true;
}

constexpr AudioPorts kAudioPorts = {count_ports, describe_port};

// Events [audio]

Transport transport_of(const TransportEvent& event, double rate) {
    if (!(event.flags & kPlaying) || !(event.flags & kHasSeconds)) return {};
    return {true, std::llround(static_cast<double>(event.seconds) / kSecond * rate)};
}

void apply(Instance& plugin, const Event& event) {
    if (event.space != kCoreSpace) return;
    if (event.type == kParameterValue && event.size >= sizeof(ParameterEvent)) {
        const auto& change = reinterpret_cast<const ParameterEvent&>(event);
        if (change.parameter < kFirstOutput) plugin.effect.set(change.parameter, change.value);
    } else if (event.type == kTransport && event.size >= sizeof(TransportEvent)) {
        const auto& moved = reinterpret_cast<const TransportEvent&>(event);
        plugin.transport = transport_of(moved, plugin.rate);
    }
}

// The events of one block, in order of time.
class Events {
  public:
    explicit Events(const InputEvents* events)
        : events_(events), count_(events ? events->size(events) : 0) {}

    // Applies what is due at `offset`, and says where the next one is, `end` if nowhere.
    uint32_t apply(Instance& plugin, uint32_t offset, uint32_t end) {
        for (; next_ < count_; ++next_) {
            const Event* event = events_->get(events_, next_);
            if (!event) continue;
            if (event->time > offset) return std::min(event->time, end);
            clap::apply(plugin, *event);
        }
        return end;
    }

  private:
    const InputEvents* events_;
    uint32_t count_, next_ = 0;
};

void tell_outputs(Instance& plugin, const OutputEvents* events) {
    if (!events) return;
    plugin.outputs.changed(plugin.effect, [&](uint32_t id, double plain) {
        ParameterEvent event = {};
        event.header = {sizeof event, 0, kCoreSpace, kParameterValue, 0};
        event.parameter = id;
        event.note = event.port = event.channel = event.key = -1;
        event.value = plain;
        return events->try_push(events, &event.header);
    });
}

// Parameters [main], and `flush` [audio] while active

uint32_t count_parameters(const Plugin*) { return kNumParameters; }

bool describe_parameter(const Plugin*, uint32_t index, ParameterInfo* info) {
    if (index >= kNumParameters) return false;
    const Parameter& p = parameter(index);
    *info = {};
    info->id = p.id;
    info->flags = (p.is_output() ? kReadOnly : kAutomatable) |
                  (p.kind == Kind::number ? 0 : kStepped) |
                  (p.kind == Kind::choice ? kEnum : 0) |
                  (p.id == kBypass ? kBypassSwitch : 0);
    std::snprintf(info->name, sizeof info->name, "%s", p.name);
    info->minimum = p.minimum;
    info->maximum = p.maximum;
    info->initial = p.initial;
    return true;
}

bool get_value(const Plugin* plugin, uint32_t id, double* value) {
    if (id >= kNumParameters) return false;
    *value = self(plugin).effect.get(id);
    return true;
}

bool value_to_text(const Plugin* plugin, uint32_t id, double value, char* text, uint32_t size) {
    if (id >= kNumParameters || size == 0) return false;
    shown_text(self(plugin).effect, id, value, text, size);
    return true;
}

bool text_to_value(const Plugin*, uint32_t id, const char* text, double* value) {
    return id < kNumParameters && text && value_of(id, text, *value);
}

void flush(const Plugin* plugin, const InputEvents* in, const OutputEvents* out) {
    Events(in).apply(self(plugin), UINT32_MAX, UINT32_MAX);
    tell_outputs(self(plugin), out);
}

constexpr Parameters kParameters = {count_parameters, describe_parameter, get_value,
                                    value_to_text,    text_to_value,      flush};

// Latency and tail [main]

uint32_t latency(const Plugin* plugin) {
    return static_cast<uint32_t>(self(plugin).effect.latency(self(plugin).rate));
}

constexpr Latency kLatency = {latency};
constexpr Tail kTail = {latency};

// Offline rendering [main]

bool needs_realtime(const Plugin*) { return false; }

bool set_render_mode(const Plugin* plugin, int32_t mode) {
    if (mode != kRealtime && mode != kOffline) return false;
    self(plugin).effect.set_offline(mode == kOffline);
    return true;
}

constexpr Render kRender = {needs_realtime, set_render_mode};

// State [main]

bool save(const Plugin* plugin, const OutputStream* stream) {
    return guarded(false, [&] {
        const std::string text = self(plugin).effect.save();
        for (size_t done = 0; done < text.size();) {
            const int64_t more = stream->write(stream, text.data() + done, text.size() - done);
            if (more <= 0) return false;
            done += static_cast<size_t>(more);
        }
        return true;
    });
}

bool load(const Plugin* plugin, const InputStream* stream) {
    return guarded(false, [&] {
        std::string text;
        char piece[4096];
        int64_t size = 1;
        while (size > 0 && text.size() <= kMaxStateBytes) {
            size = stream->read(stream, piece, sizeof piece);
            if (size < 0 || size > static_cast<int64_t>(sizeof piece)) return false;
            text.append(piece, static_cast<size_t>(size));
        }
        return self(plugin).effect.load(text.data(), text.size());
    });
}

constexpr State kState = {save, load};

// Plugin: [main], but for `reset` and what is between start and stop [audio]

bool init(const Plugin*) { return true; }
void destroy(const Plugin* plugin) { delete &self(plugin); }

bool activate(const Plugin* plugin, double rate, uint32_t, uint32_t) {
    Instance& p = self(plugin);
    p.rate = rate;
    p.transport = {};
    p.is_active = guarded(false, [&] { return p.effect.activate(rate, p.num_channels); });
    return p.is_active;
}

void deactivate(const Plugin* plugin) {
    self(plugin).effect.deactivate();
    self(plugin).is_active = false;
}

bool start_processing(const Plugin* plugin) { return self(plugin).is_active; }
void stop_processing(const Plugin*) {}

void reset(const Plugin* plugin) {
    if (self(plugin).is_active) self(plugin).effect.reset();
}

// [audio] Samples offset … offset + size of a block; silence where something is missing.
void process_part(Instance& plugin, const Process& block, uint32_t offset, uint32_t size) {
    if (block.num_outputs < 1 || !block.outputs) return;
    AudioBuffer& to = block.outputs[0];
    to.constant = 0;
    float *in[kMaxChannels], *out[kMaxChannels];
    const uint32_t num_channels = static_cast<uint32_t>(plugin.num_channels);
    const bool whole = plugin.is_active && block.num_inputs >= 1 && block.inputs &&
                       block.inputs[0].num_channels >= num_channels &&
                       to.num_channels >= num_channels &&
                       channels_at(block.inputs[0].samples, offset, plugin.num_channels, in) &&
                       channels_at(to.samples, offset, plugin.num_channels, out);
    if (whole) plugin.effect.process(in, out, size, plugin.transport);
    for (uint32_t c = whole ? num_channels : 0; to.samples && c < to.num_channels; ++c)
        if (to.samples[c]) std::fill_n(to.samples[c] + offset, size, 0.0f);
    plugin.transport.sample += size;
}

int32_t process(const Plugin* plugin, const Process* block) {
    Instance& p = self(plugin);
    p.transport = block->transport ? transport_of(*block->transport, p.rate) : Transport{};
    Events events(block->events_in);
    for (uint32_t offset = 0; offset < block->num_samples;) {
        const uint32_t next = events.apply(p, offset, block->num_samples);
        process_part(p, *block, offset, next - offset);
        offset = next;
    }
    events.apply(p, UINT32_MAX, UINT32_MAX);
    tell_outputs(p, block->events_out);
    return kContinue;
}

const void* get_extension(const Plugin*, const char* id) {
    static constexpr struct {
        const char* id;
        const void* functions;
    } kExtensions[] = {
        {"clap.audio-ports", &kAudioPorts}, {"clap.params", &kParameters},
        {"clap.latency", &kLatency},        {"clap.tail", &kTail},
        {"clap.render", &kRender},          {"clap.state", &kState},
    };
    for (const auto& extension : kExtensions)
        if (std::strcmp(id, extension.id) == 0) return extension.functions;
    return nullptr;
}

void on_main_thread(const Plugin*) {}

constexpr Plugin kFunctions = {
    nullptr, nullptr, init,  destroy, activate,      deactivate, start_processing, stop_processing,
    reset,   process, get_extension,  on_main_thread};

// Factory and entry [main]

uint32_t count_variants(const Factory*) { return kNumVariants; }

const Descriptor* describe_variant(const Factory*, uint32_t index) {
    return index < kNumVariants ? &kDescriptors[index] : nullptr;
}

const Plugin* create(const Factory*, const Host*, const char* id) {
    for (int i = 0; i < kNumVariants; ++i)
        if (std::strcmp(id, kVariants[i].clap_id) == 0)
            return guarded<const Plugin*>(
                nullptr, [&] { return &(new Instance(i, kFunctions))->plugin; });
    return nullptr;
}

constexpr Factory kFactory = {count_variants, describe_variant, create};

bool init_library(const char*) { return true; }
void leave_library() {}

const void* get_factory(const char* id) {
    return std::strcmp(id, kFactoryId) == 0 ? &kFactory : nullptr;
}

}  // namespace
}  // namespace audiosr::clap

extern "C" {
extern __attribute__((visibility("default"))) const audiosr::clap::Entry clap_entry;
const audiosr::clap::Entry clap_entry = {
    audiosr::clap::kClapVersion, audiosr::clap::init_library, audiosr::clap::leave_library,
    audiosr::clap::get_factory};
}

// The plugin as LV2: for each profile one with one channel and one with two.
#include <algorithm>
#include <cstring>

#include "ardour.h"
#include "front.h"
#include "lv2_abi.h"
#include "lv2_ports.h"
#include "lv2_time.h"
#include "state.h"

namespace audiosr::lv2 {
namespace {

const Feature* find(const Feature* const* features, const char* uri) {
    for (; features && *features; ++features)
        if (std::strcmp((*features)->uri, uri) == 0) return *features;
    return nullptr;
}

class Instance {
  public:
    Instance(const Variant& variant, double rate, const Feature* const* features)
        : effect_(variant.profile), num_channels_(variant.num_channels), rate_(rate) {
        ardour_.set_host(find(features, Ardour::kLv2Feature));
        const Feature* const found = find(features, kMapUri);
        if (!found) return;  // then there is neither transport nor state
        const Map* const map = static_cast<const Map*>(found->data);
        time_urids_ = TimeUrids(*map);
        state_key_ = map->map(map->context, kStateKey);
        string_type_ = map->map(map->context, kStringUri);
        block_length_key_ = map->map(map->context, kBlockLengthUri);
    }

    // [audio] Hosts read the latency before they run anything.
    void connect(uint32_t port, void* data) {
        const uint32_t channel = port - kFirstAudioPort;
        const uint32_t num_channels = static_cast<uint32_t>(num_channels_);
        if (port < kNumParameters) {
            controls_[port] = static_cast<float*>(data);
        } else if (port == kLatencyPort) {
            latency_ = static_cast<float*>(data);
            tell_latency();
        } else if (port == kFreewheelPort) {
            freewheel_ = static_cast<const float*>(data);
        } else if (port == time_port(num_channels_)) {
            time_ = data;
        } else if (channel < num_channels) {
            in_[channel] = static_cast<float*>(data);
        } else if (channel < 2 * num_channels) {
            out_[channel - num_channels] = static_cast<float*>(data);
        }
    }

    // [main]
    void activate() {
        transport_ = {};
        is_active_ = guarded(false, [&] { return effect_.activate(rate_, num_channels_); });
        tell_latency();
    }

    // [main]
    void deactivate() {
        effect_.deactivate();
        is_active_ = false;
    }

    // [audio]
    void run(int64_t size) {
        take_controls();
        Positions positions(time_urids_, time_);
        int64_t offset = 0, at = 0;
        Transport told;
        while (positions.next(at, told)) {
            at = std::clamp(at, offset, size);
            run_part(offset, at - offset);
            offset = at;
            transport_ = ardour_.place_of_input(told, effect_.latency(rate_));
        }
        run_part(offset, size - offset);
        tell_outputs();
    }

    // [main]
    uint32_t set(const Option* options) {
        uint32_t status = kOptionsSuccess;
        for (; options->key; ++options) {
            int32_t length = 0;
            if (options->key != block_length_key_) {
                status |= kBadKey;
            } else if (options->type != time_urids_.int_number ||
                       options->size != sizeof length || !options->value) {
                status |= kBadValue;
            } else {
                std::memcpy(&length, options->value, sizeof length);
                ardour_.announce_blocks(length);
            }
        }
        return status;
    }

    // [main]
    StateStatus save(Store store, void* context) {
        if (!state_key_) return kNoFeature;
        const std::string text = effect_.save();
        return store(context, state_key_, text.c_str(), text.size() + 1, string_type_,
                     kPod | kPortable);
    }

    // [main]
    StateStatus restore(Retrieve retrieve, void* context) {
        if (!state_key_) return kNoFeature;
        size_t size = 0;
        uint32_t type = 0, flags = 0;
        const void* value = retrieve(context, state_key_, &size, &type, &flags);
        if (!value) return kNoProperty;
        if (type != string_type_) return kBadType;
        const char* text = static_cast<const char*>(value);
        if (size > 0 && text[size - 1] == 0) --size;
        return effect_.load(text, size) ? kSuccess : kUnknownError;
    }

  private:
    void tell_latency() {
        if (latency_) *latency_ = static_cast<float>(effect_.latency(rate_));
    }

    void take_controls() {
        for (uint32_t id = 0; id < kFirstOutput; ++id) {
            if (!controls_[id]) continue;
            const float value = *controls_[id];
            effect_.set(id, id == kBypass ? value <= 0 : value);
        }
        effect_.set_offline(freewheel_ && *freewheel_ > 0);
    }

    void tell_outputs() {
        for (uint32_t id = kFirstOutput; id < kNumParameters; ++id)
            if (controls_[id]) *controls_[id] = static_cast<float>(effect_.get(id));
        tell_latency();
    }

    // Samples offset … offset + size of a block; silence where something is missing.
    void run_part(int64_t offset, int64_t size) {
        if (size == 0) return;
        float *in[kMaxChannels], *out[kMaxChannels];
        if (is_active_ && channels_at(in_, offset, num_channels_, in) &&
            channels_at(out_, offset, num_channels_, out)) {
            effect_.process(in, out, size, transport_);
        } else {
            for (int c = 0; c < num_channels_; ++c)
                if (out_[c]) std::fill_n(out_[c] + offset, size, 0.0f);
        }
        transport_.sample += size;
    }

    Effect effect_;
    const int num_channels_;
    const double rate_;
    bool is_active_ = false;
    Transport transport_;  // at the next sample
    Ardour ardour_;
    TimeUrids time_urids_;
    Urid state_key_ = 0, string_type_ = 0, block_length_key_ = 0;
    float *controls_[kNumParameters] = {}, *latency_ = nullptr;
    const float* freewheel_ = nullptr;
    const void* time_ = nullptr;
    float *in_[kMaxChannels] = {}, *out_[kMaxChannels] = {};
};

Instance& self(Handle handle) { return *static_cast<Instance*>(handle); }

Handle instantiate(const Descriptor* descriptor, double rate, const char*,
                   const Feature* const* features) {
    if (!(rate >= kMinRate) || !(rate <= kMaxRate)) return nullptr;
    for (const Variant& variant : kVariants)
        if (std::strcmp(descriptor->uri, variant.lv2_uri) == 0)
            return guarded<Handle>(nullptr,
                                   [&] { return new Instance(variant, rate, features); });
    return nullptr;
}

void connect_port(Handle handle, uint32_t port, void* data) { self(handle).connect(port, data); }
void activate(Handle handle) { self(handle).activate(); }
void run(Handle handle, uint32_t num_samples) { self(handle).run(num_samples); }
void deactivate(Handle handle) { self(handle).deactivate(); }
void cleanup(Handle handle) { delete &self(handle); }

StateStatus save(Handle handle, Store store, void* context, uint32_t, const Feature* const*) {
    return guarded(kUnknownError, [&] { return self(handle).save(store, context); });
}

StateStatus restore(Handle handle, Retrieve retrieve, void* context, uint32_t,
                    const Feature* const*) {
    return guarded(kUnknownError, [&] { return self(handle).restore(retrieve, context); });
}

uint32_t get_options(Handle, Option*) { return kBadKey; }  // hosts tell them, none is ours
uint32_t set_options(Handle handle, const Option* options) { return self(handle).set(options); }

constexpr StateInterface kState = {save, restore};
constexpr OptionsInterface kOptions = {get_options, set_options};

const void* extension_data(const char* uri) {
    if (std::strcmp(uri, kStateUri) == 0) return &kState;
    return std::strcmp(uri, kOptionsUri) == 0 ? &kOptions : nullptr;
}

constexpr Descriptor described(const Variant& variant) {
    return {variant.lv2_uri, instantiate, connect_port, activate,
            run,             deactivate,  cleanup,      extension_data};
}

constexpr Descriptor kDescriptors[] = {described(kVariants[0]), described(kVariants[1]),
                                       described(kVariants[2]), described(kVariants[3])};
static_assert(sizeof(kDescriptors) / sizeof(kDescriptors[0]) == kNumVariants);

}  // namespace
}  // namespace audiosr::lv2

extern "C" __attribute__((visibility("default"))) const audiosr::lv2::Descriptor* lv2_descriptor(
    uint32_t index) {
    return index < audiosr::kNumVariants ? &audiosr::lv2::kDescriptors[index] : nullptr;
}

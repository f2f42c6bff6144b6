// The plugin as VST3: one object is component, processor and controller.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <new>

#include "ardour.h"
#include "front.h"
#include "state.h"
#include "vst3_abi.h"

namespace audiosr::vst3 {
namespace {

constexpr char kCategory[] = "Audio Module Class", kSubCategories[] = "Fx|Restoration";

Uid id_of(const Class& which) {
    return {which.id[0], which.id[1], which.id[2], which.id[3]};
}

template <size_t size>
void copy(char (&to)[size], const char* from) {
    std::snprintf(to, size, "%s", from);
}

void widen(char16_t* to, const char* from) {  // to a String128
    int i = 0;
    for (; from[i] && i < 127; ++i)
        to[i] = static_cast<unsigned char>(from[i]) < 128 ? from[i] : u'?';
    to[i] = 0;
}

void narrow(char (&to)[128], const char16_t* from) {
    int i = 0;
    for (; from[i] && i < 127; ++i) to[i] = from[i] < 128 ? static_cast<char>(from[i]) : '?';
    to[i] = 0;
}

bool is_named(Unknown* host, const char* wanted) {
    void* found = nullptr;
    if (!host || host->queryInterface(kHostId.bytes, &found) != kOk || !found) return false;
    auto* const application = static_cast<HostApplication*>(found);
    String128 wide = {};
    char name[128] = "";
    if (application->getName(wide) == kOk) narrow(name, wide);
    application->release();
    return std::strcmp(name, wanted) == 0;
}

// The changes of one block, each parameter's in order of time.
class Changes {
  public:
    explicit Changes(ParameterChanges* changes) {
        const int32_t count = changes ? changes->getParameterCount() : 0;
        for (int32_t i = 0; i < count && num_queues_ < kMaxQueues; ++i)
            if (ValueQueue* queue = changes->getParameterData(i)) queues_[num_queues_++] = {queue};
    }

    // [audio] Sets what is due at `offset`, and says where the next change is, `end` if nowhere.
    int32_t apply(Effect& effect, int32_t offset, int32_t end) {
        for (int i = 0; i < num_queues_; ++i) end = queues_[i].apply(effect, offset, end);
        return end;
    }

  private:
    struct Queue {
        ValueQueue* points = nullptr;
        int32_t next = 0;

        int32_t apply(Effect& effect, int32_t offset, int32_t end) {
            const int32_t count = points->getPointCount();
            const uint32_t id = points->getParameterId();
            int32_t at = 0;
            double value = 0;
            for (; next < count; ++next) {
                if (points->getPoint(next, at, value) != kOk) continue;
                if (at > offset) return std::min(at, end);
                if (id < kFirstOutput) effect.set(id, plain_of(id, value));
            }
            return end;
        }
    };

    static constexpr int kMaxQueues = 2 * kNumParameters;  // a host sends one a parameter
    Queue queues_[kMaxQueues];
    int num_queues_ = 0;
};

class Plugin final : public Component,
                     public Processor,
                     public Controller,
                     public ContextRequirements {
  public:
    explicit Plugin(const Profile& profile) : effect_(profile) {}

    // Unknown [any]

    Result queryInterface(const char* id, void** object) override {
        *object = nullptr;
        if (kUnknownId.is(id) || kPluginBaseId.is(id) || kComponentId.is(id))
            *object = static_cast<Component*>(this);
        else if (kProcessorId.is(id))
            *object = static_cast<Processor*>(this);
        else if (kControllerId.is(id))
            *object = static_cast<Controller*>(this);
        else if (kContextRequirementsId.is(id))
            *object = static_cast<ContextRequirements*>(this);
        else
            return kNoInterface;
        addRef();
        return kOk;
    }

    uint32_t addRef() override { return ++num_references_; }

    uint32_t release() override {
        const uint32_t left = --num_references_;
        if (left == 0) delete this;
        return left;
    }

    // Component [main]

    Result initialize(Unknown* host) override {
        ardour_.set_host(is_named(host, Ardour::kName));
        return kOk;
    }

    Result terminate() override { return setActive(0); }
    Result getControllerClassId(char*) override { return kNotImplemented; }  // it is this object
    Result setIoMode(int32_t) override { return kNotImplemented; }
    Result getRoutingInfo(Routing&, Routing&) override { return kNotImplemented; }

    int32_t getBusCount(int32_t media_type, int32_t direction) override {
        return is_bus(media_type, direction, 0) ? 1 : 0;
    }

    Result getBusInfo(int32_t media_type, int32_t direction, int32_t index,
                      BusInfo& info) override {
        if (!is_bus(media_type, direction, index)) return kInvalid;
        info = {};
        info.media_type = media_type;
        info.direction = direction;
        info.num_channels = num_channels_;
        widen(info.name, direction == kInput ? "Input" : "Output");
        info.flags = kActiveByDefault;
        return kOk;
    }

    Result activateBus(int32_t media_type, int32_t direction, int32_t index, uint8_t) override {
        return is_bus(media_type, direction, index) ? kOk : kInvalid;
    }

    Result setActive(uint8_t on) override {
        if (on && !is_active_)
            is_active_ = guarded(false, [&] { return effect_.activate(rate_, num_channels_); });
        else if (!on && is_active_) {
            effect_.deactivate();
            is_active_ = false;
        }
        return is_active_ == (on != 0) ? kOk : kFalse;
    }

    Result setState(Stream* stream) override {
        return guarded<Result>(kFalse, [&]() -> Result {
            std::string text;
            char piece[4096];
            int32_t size = 0;
            while (stream && text.size() <= kMaxStateBytes &&
                   stream->read(piece, sizeof piece, &size) == kOk && size > 0)
                text.append(piece, std::min<size_t>(size, sizeof piece));
            return effect_.load(text.data(), text.size()) ? kOk : kFalse;
        });
    }

    Result getState(Stream* stream) override {
        return guarded<Result>(kFalse, [&]() -> Result {
            std::string text = effect_.save();
            const int32_t size = static_cast<int32_t>(text.size());
            int32_t done = 0;
            return stream && stream->write(text.data(), size, &done) == kOk && done == size
                       ? kOk
                       : kFalse;
        });
    }

    // Processor [main], and `process` [audio]

    Result setBusArrangements(uint64_t* inputs, int32_t num_inputs, uint64_t* outputs,
                              int32_t num_outputs) override {
        if (is_active_ || num_inputs != 1 || num_outputs != 1 || !inputs || !outputs ||
            inputs[0] != outputs[0] || (inputs[0] != kMono && inputs[0] != kStereo))
            return kFalse;
        num_channels_ = inputs[0] == kMono ? 1 : 2;
        return kOk;
    }

    Result getBusArrangement(int32_t direction, int32_t index, uint64_t& arrangement) override {
        if (!is_bus(kAudio, direction, index)) return kInvalid;
        arrangement = num_channels_ == 1 ? kMono : kStereo;
        return kOk;
    }

    Result canProcessSampleSize(int32_t size) override {
        return size == kSample32 ? kOk : kFalse;
    }

    uint32_t getLatencySamples() override {
        return static_cast<uint32_t>(effect_.latency(rate_));
    }

    uint32_t getTailSamples() override { return getLatencySamples(); }

    Result setupProcessing(ProcessSetup& setup) override {
        if (is_active_ || setup.sample_size != kSample32 || !(setup.sample_rate >= kMinRate) ||
            !(setup.sample_rate <= kMaxRate))
            return kFalse;
        rate_ = setup.sample_rate;
        is_offline_ = setup.process_mode == kOffline;
        effect_.set_offline(is_offline_);
        ardour_.announce_blocks(setup.max_samples);
        return kOk;
    }

    Result setProcessing(uint8_t on) override {
        if (on && is_active_) effect_.reset();
        return kOk;
    }

    Result process(ProcessData& data) override {
        effect_.set_offline(is_offline_ || data.process_mode == kOffline);
        Changes changes(data.changes_in);
        const int32_t size = data.sample_size == kSample32 ? std::max(data.num_samples, 0) : 0;
        for (int32_t offset = 0; offset < size;) {
            const int32_t next = changes.apply(effect_, offset, size);
            process_part(data, offset, next - offset);
            offset = next;
        }
        changes.apply(effect_, INT32_MAX, size);
        if (data.changes_out) tell_outputs(*data.changes_out);
        return kOk;
    }

    uint32_t getProcessContextRequirements() override { return kNeedTransportState; }

    // Controller [main]

    Result setComponentState(Stream* stream) override { return setState(stream); }
    int32_t getParameterCount() override { return kNumParameters; }

    Result getParameterInfo(int32_t index, ParameterInfo& info) override {
        if (index < 0 || index >= static_cast<int32_t>(kNumParameters)) return kInvalid;
        const Parameter& p = parameter(index);
        info = {};
        info.id = p.id;
        widen(info.title, p.name);
        widen(info.short_title, p.name);  // no units: they are in the text of each value
        const bool is_smooth = p.kind == Kind::number || (p.kind == Kind::whole && p.is_output());
        info.num_steps = is_smooth ? 0 : static_cast<int32_t>(p.maximum - p.minimum);
        info.initial = normalised(p.id, p.initial);
        info.flags = (p.is_output() ? kIsReadOnly : kCanAutomate) | (p.choices ? kIsList : 0) |
                     (p.id == kBypass ? kIsBypass : 0);
        return kOk;
    }

    Result getParamStringByValue(uint32_t id, double normalised, char16_t* text) override {
        if (id >= kNumParameters) return kInvalid;
        char shown[128];
        shown_text(effect_, id, plain_of(id, normalised), shown, sizeof shown);
        widen(text, shown);
        return kOk;
    }

    Result getParamValueByString(uint32_t id, char16_t* text, double& normalised) override {
        if (id >= kNumParameters || !text) return kInvalid;
        char shown[128];
        narrow(shown, text);
        double plain = 0;
        if (!value_of(id, shown, plain)) return kFalse;
        normalised = audiosr::normalised(id, plain);
        return kOk;
    }

    double normalizedParamToPlain(uint32_t id, double normalised) override {
        return id < kNumParameters ? plain_of(id, normalised) : 0;
    }

    double plainParamToNormalized(uint32_t id, double plain) override {
        return id < kNumParameters ? normalised(id, plain) : 0;
    }

    double getParamNormalized(uint32_t id) override {
        return id < kNumParameters ? normalised(id, effect_.get(id)) : 0;
    }

    Result setParamNormalized(uint32_t id, double normalised) override {
        if (id >= kNumParameters) return kInvalid;
        if (id < kFirstOutput) effect_.set(id, plain_of(id, normalised));
        return kOk;
    }

    Result setComponentHandler(void*) override { return kOk; }
    void* createView(const char*) override { return nullptr; }

  private:
    static bool is_bus(int32_t media_type, int32_t direction, int32_t index) {
        return media_type == kAudio && (direction == kInput || direction == kOutput) && index == 0;
    }

    // [audio] Samples offset … offset + size of a block; silence where something is missing.
    void process_part(ProcessData& data, int32_t offset, int32_t size) {
        if (data.num_outputs < 1 || !data.outputs) return;
        BusBuffers& to = data.outputs[0];
        to.silence = 0;
        float *in[kMaxChannels], *out[kMaxChannels];
        const bool whole = is_active_ && data.num_inputs >= 1 && data.inputs &&
                           data.inputs[0].num_channels >= num_channels_ &&
                           to.num_channels >= num_channels_ &&
                           channels_at(data.inputs[0].samples, offset, num_channels_, in) &&
                           channels_at(to.samples, offset, num_channels_, out);
        if (whole)
            effect_.process(in, out, size, transport_at(data.context, offset));
        for (int c = whole ? num_channels_ : 0; to.samples && c < to.num_channels; ++c)
            if (to.samples[c]) std::fill_n(to.samples[c] + offset, size, 0.0f);
    }

    Transport transport_at(const ProcessContext* context, int32_t offset) const {
        if (!context || !(context->state & kPlaying)) return {};
        return ardour_.place_of_input({true, context->project_samples + offset},
                                      effect_.latency(rate_));
    }

    void tell_outputs(ParameterChanges& changes) {
        outputs_.changed(effect_, [&](uint32_t id, double plain) {
            int32_t index = 0;
            ValueQueue* queue = changes.addParameterData(id, index);
            return queue && queue->addPoint(0, normalised(id, plain), index) == kOk;
        });
    }

    std::atomic<uint32_t> num_references_{1};
    Effect effect_;
    Outputs outputs_;
    Ardour ardour_;
    int num_channels_ = 2;
    double rate_ = 48000;
    bool is_active_ = false, is_offline_ = false;
};

// One for the whole binary; hosts ask for it and never own it.
class PluginFactory final : public Factory2 {
  public:
    Result queryInterface(const char* id, void** object) override {
        const bool known = kUnknownId.is(id) || kFactoryId.is(id) || kFactory2Id.is(id);
        *object = known ? static_cast<Factory2*>(this) : nullptr;
        return known ? kOk : kNoInterface;
    }

    uint32_t addRef() override { return 1; }
    uint32_t release() override { return 1; }

    Result getFactoryInfo(FactoryInfo* info) override {
        *info = {};
        copy(info->vendor, kVendor);
        info->flags = kUnicode;
        return kOk;
    }

    int32_t countClasses() override { return kNumClasses; }

    Result getClassInfo(int32_t index, ClassInfo* info) override {
        if (index < 0 || index >= kNumClasses) return kInvalid;
        *info = {};
        describe(index, *info);
        return kOk;
    }

    Result getClassInfo2(int32_t index, ClassInfo2* info) override {
        if (index < 0 || index >= kNumClasses) return kInvalid;
        *info = {};
        describe(index, *info);
        copy(info->sub_categories, kSubCategories);
        copy(info->vendor, kVendor);
        copy(info->version, kPluginVersion);
        copy(info->sdk_version, "VST 3.7");
        return kOk;
    }

    Result createInstance(const char* class_id, const char* interface_id,
                          void** object) override {
        *object = nullptr;
        for (const Class& which : kClasses) {
            if (!id_of(which).is(class_id)) continue;
            Plugin* plugin =
                guarded<Plugin*>(nullptr, [&] { return new Plugin(which.profile); });
            if (!plugin) return kFalse;
            const Result result = plugin->queryInterface(interface_id, object);
            plugin->release();
            return result;
        }
        return kInvalid;
    }

  private:
    template <typename Info>
    static void describe(int32_t index, Info& info) {
        std::memcpy(info.id, id_of(kClasses[index]).bytes, sizeof info.id);
        info.cardinality = kManyInstances;
        copy(info.category, kCategory);
        copy(info.name, kClasses[index].profile.name);
    }
};

PluginFactory factory;

}  // namespace
}  // namespace audiosr::vst3

#define AUDIOSR_EXPORT extern "C" __attribute__((visibility("default")))

AUDIOSR_EXPORT audiosr::vst3::Factory* GetPluginFactory() { return &audiosr::vst3::factory; }
AUDIOSR_EXPORT bool ModuleEntry(void*) { return true; }
AUDIOSR_EXPORT bool ModuleExit() { return true; }

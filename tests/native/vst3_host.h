#pragma once

#include <algorithm>
#include <cmath>
#include <memory>

#include "host.h"
#include "identifiers.h"
#include "vst3_abi.h"

namespace vst3 = audiosr::vst3;

// Objects that live as long as the host: they are not counted.
template <typename Interface>
struct Uncounted : Interface {
    vst3::Result queryInterface(const char*, void** object) override {
        *object = nullptr;
        return vst3::kNoInterface;
    }
    uint32_t addRef() override { return 1; }
    uint32_t release() override { return 1; }
};

struct MemoryStream final : Uncounted<vst3::Stream> {
    std::string bytes;
    size_t position = 0;

    vst3::Result read(void* to, int32_t size, int32_t* done) override {
        const size_t count = std::min<size_t>(size, bytes.size() - position);
        bytes.copy(static_cast<char*>(to), count, position);
        position += count;
        if (done) *done = static_cast<int32_t>(count);
        return vst3::kOk;
    }
    vst3::Result write(void* from, int32_t size, int32_t* done) override {
        bytes.append(static_cast<const char*>(from), size);
        if (done) *done = size;
        return vst3::kOk;
    }
    vst3::Result seek(int64_t to, int32_t, int64_t*) override {
        position = static_cast<size_t>(to);
        return vst3::kOk;
    }
    vst3::Result tell(int64_t* to) override {
        *to = static_cast<int64_t>(position);
        return vst3::kOk;
    }
};

struct Queue final : Uncounted<vst3::ValueQueue> {
    uint32_t id = 0;
    std::vector<std::pair<int32_t, double>> points;

    uint32_t getParameterId() override { return id; }
    int32_t getPointCount() override { return static_cast<int32_t>(points.size()); }
    vst3::Result getPoint(int32_t index, int32_t& offset, double& value) override {
        if (index < 0 || index >= getPointCount()) return vst3::kInvalid;
        offset = points[index].first;
        value = points[index].second;
        return vst3::kOk;
    }
    vst3::Result addPoint(int32_t offset, double value, int32_t& index) override {
        index = getPointCount();
        points.push_back({offset, value});
        return vst3::kOk;
    }
};

struct Queues final : Uncounted<vst3::ParameterChanges> {
    std::vector<std::unique_ptr<Queue>> queues;

    int32_t getParameterCount() override { return static_cast<int32_t>(queues.size()); }
    vst3::ValueQueue* getParameterData(int32_t index) override {
        return index >= 0 && index < getParameterCount() ? queues[index].get() : nullptr;
    }
    vst3::ValueQueue* addParameterData(const uint32_t& id, int32_t& index) override {
        for (index = 0; index < getParameterCount(); ++index)
            if (queues[index]->id == id) return queues[index].get();
        queues.push_back(std::make_unique<Queue>());
        queues.back()->id = id;
        return queues.back().get();
    }
    void add(uint32_t id, int64_t offset, double value) {
        int32_t index = 0;
        addParameterData(id, index)->addPoint(static_cast<int32_t>(offset), value, index);
    }
};

struct Application final : Uncounted<vst3::HostApplication> {
    std::string name;

    vst3::Result queryInterface(const char* id, void** object) override {
        *object = vst3::kHostId.is(id) ? this : nullptr;
        return *object ? vst3::kOk : vst3::kNoInterface;
    }
    vst3::Result getName(char16_t* to) override {
        std::copy(name.c_str(), name.c_str() + name.size() + 1, to);
        return vst3::kOk;
    }
    vst3::Result createInstance(char*, char*, void**) override { return vst3::kNotImplemented; }
};

class Vst3Host final : public Host {
  public:
    Vst3Host(void* library, const Setup& setup) : Host(setup), library_(library) {
        NEED(symbol<bool (*)(void*)>(library, "ModuleEntry")(library));
        factory_ = symbol<vst3::Factory* (*)()>(library, "GetPluginFactory")();
        NEED(factory_ && factory_->countClasses() == audiosr::kNumClasses);
        component_ = create();
        component_->queryInterface(vst3::kProcessorId.bytes, reinterpret_cast<void**>(&processor_));
        component_->queryInterface(vst3::kControllerId.bytes,
                                   reinterpret_cast<void**>(&controller_));
        NEED(processor_ && controller_);
        application_.name = setup.host;
        vst3::Unknown* const told = setup.host.empty() ? nullptr : &application_;
        NEED(component_->initialize(told) == vst3::kOk);
        told_.resize(audiosr::kNumParameters, 0);
        uint64_t layout = setup.num_channels == 1 ? vst3::kMono : vst3::kStereo;
        NEED(processor_->setBusArrangements(&layout, 1, &layout, 1) == vst3::kOk);
        vst3::BusInfo bus;
        for (int32_t side : {vst3::kInput, vst3::kOutput})
            NEED(component_->getBusInfo(vst3::kAudio, side, 0, bus) == vst3::kOk &&
                 bus.num_channels == setup.num_channels);
    }

    ~Vst3Host() override {
        NEED(component_->terminate() == vst3::kOk);
        controller_->release();
        processor_->release();
        NEED(component_->release() == 0);
        NEED(symbol<bool (*)()>(library_, "ModuleExit")());
    }

    void start() override {
        vst3::ProcessSetup how = {mode(), vst3::kSample32, static_cast<int32_t>(setup_.max_block),
                                  setup_.rate};
        NEED(processor_->setupProcessing(how) == vst3::kOk);
        for (int32_t side : {vst3::kInput, vst3::kOutput})
            NEED(component_->activateBus(vst3::kAudio, side, 0, 1) == vst3::kOk);
        NEED(component_->setActive(1) == vst3::kOk && processor_->setProcessing(1) == vst3::kOk);
    }

    void stop() override {
        processor_->setProcessing(0);
        NEED(component_->setActive(0) == vst3::kOk);
    }

    void process(Block& block) override {
        for (const Change& change : block.changes)
            changes_.add(change.id, change.offset, audiosr::normalised(change.id, change.plain));
        vst3::ProcessContext context = {};
        context.state = block.song.plays ? vst3::kPlaying : 0;
        context.sample_rate = setup_.rate;
        context.project_samples = block.song.sample;
        vst3::BusBuffers in = {static_cast<int32_t>(block.in.size()), 0, block.in.data()};
        vst3::BusBuffers out = {static_cast<int32_t>(block.out.size()), 0, block.out.data()};
        vst3::ProcessData data = {};
        data.process_mode = mode();
        data.num_samples = static_cast<int32_t>(block.size);
        data.num_inputs = data.num_outputs = 1;
        data.inputs = &in;
        data.outputs = &out;
        data.context = &context;
        run(data);
    }

    void flush() override {
        vst3::ProcessData data = {};
        data.process_mode = mode();
        run(data);
    }

    uint32_t latency() override { return processor_->getLatencySamples(); }
    int64_t tail() override { return processor_->getTailSamples(); }

    void set(uint32_t id, double plain) override {
        changes_.add(id, 0, audiosr::normalised(id, plain));
    }

    double get(uint32_t id) override {
        return id < audiosr::kFirstOutput
                   ? audiosr::plain_of(id, controller_->getParamNormalized(id))
                   : told_[id];
    }

    std::string text(uint32_t id, double plain) override {
        vst3::String128 wide;
        NEED(controller_->getParamStringByValue(id, audiosr::normalised(id, plain), wide) ==
             vst3::kOk);
        std::string text;
        for (int i = 0; wide[i]; ++i) text += static_cast<char>(wide[i]);
        return text;
    }

    bool value(uint32_t id, const std::string& text, double& plain) override {
        vst3::String128 wide = {};
        std::copy_n(text.begin(), std::min<size_t>(text.size(), 127), wide);
        double normalised = 0;
        if (controller_->getParamValueByString(id, wide, normalised) != vst3::kOk) return false;
        plain = controller_->normalizedParamToPlain(id, normalised);
        return true;
    }

    std::string save() override {
        MemoryStream stream;
        NEED(component_->getState(&stream) == vst3::kOk);
        return stream.bytes;
    }

    bool load(const std::string& state) override {
        MemoryStream stream;
        stream.bytes = state;
        return component_->setState(&stream) == vst3::kOk;
    }

    void misuse() override {
        refuse_arrangements();
        refuse_setups();
        query_strangers();
        process_nothing();
        start();
        NEED(component_->setActive(1) == vst3::kOk);
        uint64_t mono = vst3::kMono;
        NEED(processor_->setBusArrangements(&mono, 1, &mono, 1) != vst3::kOk);
        process_nothing();
        stop();
        NEED(component_->setActive(0) == vst3::kOk);
        process_nothing();
    }

  private:
    int32_t mode() const { return setup_.offline ? vst3::kOffline : vst3::kRealtime; }

    vst3::Component* create() {
        for (const audiosr::Class& which : audiosr::kClasses) {
            if (setup_.profile != which.profile.id) continue;
            const vst3::Uid id(which.id[0], which.id[1], which.id[2], which.id[3]);
            vst3::Component* component = nullptr;
            NEED(factory_->createInstance(id.bytes, vst3::kComponentId.bytes,
                                          reinterpret_cast<void**>(&component)) == vst3::kOk);
            return component;
        }
        NEED(!"a profile");
        return nullptr;
    }

    void run(vst3::ProcessData& data) {
        Queues told;
        data.changes_in = &changes_;
        data.changes_out = &told;
        NEED(processor_->process(data) == vst3::kOk);
        changes_.queues.clear();
        for (const auto& queue : told.queues)
            told_[queue->id] = audiosr::plain_of(queue->id, queue->points.back().second);
    }

    void refuse_arrangements() {
        const uint64_t quad = 0x33;
        uint64_t layouts[][2] = {{quad, quad}, {vst3::kMono, vst3::kStereo},
                                 {vst3::kStereo, vst3::kMono}, {0, 0}};
        for (auto& layout : layouts)
            NEED(processor_->setBusArrangements(&layout[0], 1, &layout[1], 1) != vst3::kOk);
        uint64_t two[] = {vst3::kStereo, vst3::kStereo};
        NEED(processor_->setBusArrangements(two, 2, two, 1) != vst3::kOk);
        NEED(processor_->setBusArrangements(nullptr, 0, nullptr, 0) != vst3::kOk);
        uint64_t now = 0;
        NEED(processor_->getBusArrangement(vst3::kInput, 0, now) == vst3::kOk);
        NEED(now == (setup_.num_channels == 1 ? vst3::kMono : vst3::kStereo));
        NEED(processor_->getBusArrangement(vst3::kInput, 1, now) != vst3::kOk);
    }

    void refuse_setups() {
        NEED(processor_->canProcessSampleSize(vst3::kSample64) != vst3::kOk);
        const double rates[] = {0, -1, 8000, 1e9, NAN, INFINITY};
        for (double rate : rates) {
            vst3::ProcessSetup how = {vst3::kRealtime, vst3::kSample32, 512, rate};
            NEED(processor_->setupProcessing(how) != vst3::kOk);
        }
        vst3::ProcessSetup how = {vst3::kRealtime, vst3::kSample64, 512, 48000};
        NEED(processor_->setupProcessing(how) != vst3::kOk);
    }

    void query_strangers() {
        vst3::ParameterInfo parameter;
        vst3::BusInfo bus;
        vst3::String128 text = {};
        double value = 0;
        void* nothing = &value;
        const char stranger[16] = {};
        NEED(component_->queryInterface(stranger, &nothing) != vst3::kOk && !nothing);
        NEED(factory_->createInstance(stranger, stranger, &nothing) != vst3::kOk && !nothing);
        NEED(component_->getBusInfo(vst3::kEvent, 0, 0, bus) != vst3::kOk);
        NEED(component_->getBusInfo(vst3::kAudio, 0, 1, bus) != vst3::kOk);
        NEED(component_->getBusCount(vst3::kEvent, 0) == 0);
        const uint32_t beyond = audiosr::kNumParameters;
        NEED(controller_->getParameterInfo(-1, parameter) != vst3::kOk);
        NEED(controller_->getParameterInfo(beyond, parameter) != vst3::kOk);
        NEED(controller_->getParamStringByValue(beyond, 0, text) != vst3::kOk);
        NEED(controller_->getParamValueByString(beyond, text, value) != vst3::kOk);
        NEED(controller_->setParamNormalized(beyond, 0) != vst3::kOk);
        NEED(controller_->getParamNormalized(UINT32_MAX) == 0);
        NEED(controller_->setParamNormalized(audiosr::kState, 1) == vst3::kOk);
        NEED(controller_->createView("editor") == nullptr);
        NEED(component_->setState(nullptr) != vst3::kOk);
        NEED(component_->getState(nullptr) != vst3::kOk);
    }

    // No samples, no buses, no channels, no buffers; and strange changes.
    void process_nothing() {
        std::vector<float> sound(64, 1.0f);
        float* none[] = {nullptr, nullptr};
        float* some[] = {sound.data(), nullptr};
        Queues strange;
        strange.add(12345, 0, 0.5);
        strange.add(audiosr::kMix, -5, 2);
        strange.add(audiosr::kMix, 1000, NAN);
        for (float** samples : {static_cast<float**>(nullptr), &none[0], &some[0]})
            for (int32_t num_buses : {0, 1})
                for (int32_t num_channels : {0, 1, 2})
                    for (int32_t size : {-1, 0, 64}) {
                        vst3::BusBuffers in = {num_channels, 0, samples}, out = in;
                        vst3::ProcessData data = {};
                        data.num_samples = size;
                        data.num_inputs = data.num_outputs = num_buses;
                        data.inputs = num_buses ? &in : nullptr;
                        data.outputs = num_buses ? &out : nullptr;
                        data.changes_in = &strange;
                        processor_->process(data);
                    }
        vst3::ProcessData wide = {};
        wide.sample_size = vst3::kSample64;
        wide.num_samples = 64;
        processor_->process(wide);
        set(audiosr::kMix, 1);
        flush();
    }

    void* library_;
    Application application_;
    vst3::Factory* factory_ = nullptr;
    vst3::Component* component_ = nullptr;
    vst3::Processor* processor_ = nullptr;
    vst3::Controller* controller_ = nullptr;
    Queues changes_;
    std::vector<double> told_;
};

#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "clap_abi.h"
#include "host.h"
#include "identifiers.h"

namespace clap = audiosr::clap;

class ClapHost final : public Host {
  public:
    ClapHost(void* library, const Setup& setup) : Host(setup) {
        entry_ = symbol<const clap::Entry*>(library, "clap_entry");
        NEED(entry_->clap_version.major == 1 && entry_->init(""));
        factory_ = static_cast<const clap::Factory*>(entry_->get_factory(clap::kFactoryId));
        NEED(factory_ && factory_->count(factory_) == audiosr::kNumVariants);
        for (const audiosr::Variant& variant : audiosr::kVariants)
            if (setup.profile == variant.profile.id && setup.num_channels == variant.num_channels)
                plugin_ = factory_->create(factory_, &kHost, variant.clap_id);
        NEED(plugin_ && plugin_->init(plugin_));
        told_.resize(audiosr::kNumParameters, 0);
        clap::AudioPortInfo port;
        const auto* ports = extension<clap::AudioPorts>("clap.audio-ports");
        for (bool is_input : {true, false})
            NEED(ports->count(plugin_, is_input) == 1 &&
                 ports->get(plugin_, 0, is_input, &port) &&
                 port.num_channels == static_cast<uint32_t>(setup.num_channels));
    }

    ~ClapHost() override {
        plugin_->destroy(plugin_);
        entry_->deinit();
    }

    void start() override {
        NEED(extension<clap::Render>("clap.render")->set(plugin_, setup_.offline));
        NEED(plugin_->activate(plugin_, setup_.rate, 1, static_cast<uint32_t>(setup_.max_block)));
        NEED(plugin_->start_processing(plugin_));
    }

    void stop() override {
        plugin_->stop_processing(plugin_);
        plugin_->deactivate(plugin_);
    }

    void process(Block& block) override {
        for (const Change& change : block.changes) add(change);
        clap::TransportEvent song = {};
        song.header = {sizeof song, 0, clap::kCoreSpace, clap::kTransport, 0};
        song.flags = clap::kHasSeconds;
        if (block.song.plays) song.flags |= clap::kPlaying;
        song.seconds = std::llround(static_cast<double>(block.song.sample) / setup_.rate *
                                    clap::kSecond);
        const auto num_channels = static_cast<uint32_t>(block.in.size());
        clap::AudioBuffer in = {block.in.data(), nullptr, num_channels, 0, 0};
        clap::AudioBuffer out = {block.out.data(), nullptr, num_channels, 0, 0};
        clap::Process data = {};
        data.steady_time = -1;
        data.num_samples = static_cast<uint32_t>(block.size);
        data.transport = &song;
        data.inputs = &in;
        data.outputs = &out;
        data.num_inputs = data.num_outputs = 1;
        const clap::InputEvents input = input_events();
        const clap::OutputEvents output = output_events();
        data.events_in = &input;
        data.events_out = &output;
        NEED(plugin_->process(plugin_, &data) == clap::kContinue);
        changes_.clear();
    }

    void flush() override {
        const clap::InputEvents input = input_events();
        const clap::OutputEvents output = output_events();
        extension<clap::Parameters>("clap.params")->flush(plugin_, &input, &output);
        changes_.clear();
    }

    uint32_t latency() override { return extension<clap::Latency>("clap.latency")->get(plugin_); }
    int64_t tail() override { return extension<clap::Tail>("clap.tail")->get(plugin_); }

    void set(uint32_t id, double plain) override { add({0, id, plain}); }

    double get(uint32_t id) override {
        if (id >= audiosr::kFirstOutput) return told_[id];
        double value = 0;
        NEED(extension<clap::Parameters>("clap.params")->get_value(plugin_, id, &value));
        return value;
    }

    std::string text(uint32_t id, double plain) override {
        char text[200];
        NEED(extension<clap::Parameters>("clap.params")
                 ->value_to_text(plugin_, id, plain, text, sizeof text));
        return text;
    }

    bool value(uint32_t id, const std::string& text, double& plain) override {
        return extension<clap::Parameters>("clap.params")
            ->text_to_value(plugin_, id, text.c_str(), &plain);
    }

    std::string save() override {
        std::string state;
        const clap::OutputStream stream = {
            &state, [](const clap::OutputStream* stream, const void* from, uint64_t size) {
                const uint64_t some = std::min<uint64_t>(size, 100);  // a host may take less
                static_cast<std::string*>(stream->context)
                    ->append(static_cast<const char*>(from), some);
                return static_cast<int64_t>(some);
            }};
        NEED(extension<clap::State>("clap.state")->save(plugin_, &stream));
        return state;
    }

    bool load(const std::string& state) override {
        std::string left = state;
        const clap::InputStream stream = {
            &left, [](const clap::InputStream* stream, void* to, uint64_t size) {
                auto& left = *static_cast<std::string*>(stream->context);
                const size_t some = std::min<size_t>({size, left.size(), 100});
                left.copy(static_cast<char*>(to), some);
                left.erase(0, some);
                return static_cast<int64_t>(some);
            }};
        return extension<clap::State>("clap.state")->load(plugin_, &stream);
    }

    void misuse() override {
        NEED(!factory_->descriptor(factory_, audiosr::kNumVariants));
        NEED(!factory_->create(factory_, &kHost, "stranger"));
        NEED(!entry_->get_factory("stranger"));
        NEED(!plugin_->get_extension(plugin_, "stranger"));
        const auto* parameters = extension<clap::Parameters>("clap.params");
        clap::ParameterInfo info;
        char text[8];
        double value = 0;
        const uint32_t beyond = audiosr::kNumParameters;
        NEED(!parameters->get_info(plugin_, beyond, &info));
        NEED(!parameters->get_value(plugin_, beyond, &value));
        NEED(!parameters->value_to_text(plugin_, beyond, 0, text, sizeof text));
        NEED(!parameters->value_to_text(plugin_, 0, 0, text, 0));
        NEED(parameters->value_to_text(plugin_, audiosr::kState, 0, text, sizeof text));
        NEED(!parameters->text_to_value(plugin_, beyond, "1", &value));
        NEED(!extension<clap::Render>("clap.render")->set(plugin_, 7));
        NEED(!plugin_->activate(plugin_, 8000, 1, 512));
        NEED(!plugin_->start_processing(plugin_));
        process_nothing();
        start();
        process_nothing();
        stop();
        process_nothing();
        plugin_->reset(plugin_);
    }

  private:
    static constexpr clap::Host kHost = {
        clap::kClapVersion, nullptr, "minihost", "", "", "1",
        [](const clap::Host*, const char*) -> const void* { return nullptr; },
        [](const clap::Host*) {}, [](const clap::Host*) {}, [](const clap::Host*) {}};

    template <typename Extension>
    const Extension* extension(const char* id) {
        const auto* found = static_cast<const Extension*>(plugin_->get_extension(plugin_, id));
        NEED(found);
        return found;
    }

    void add(const Change& change) {
        clap::ParameterEvent event = {};
        event.header = {sizeof event, static_cast<uint32_t>(change.offset), clap::kCoreSpace,
                        clap::kParameterValue, 0};
        event.parameter = change.id;
        event.note = event.port = event.channel = event.key = -1;
        event.value = change.plain;
        changes_.push_back(event);
    }

    clap::InputEvents input_events() {
        return {&changes_,
                [](const clap::InputEvents* events) {
                    return static_cast<uint32_t>(
                        static_cast<decltype(changes_)*>(events->context)->size());
                },
                [](const clap::InputEvents* events, uint32_t index) -> const clap::Event* {
                    return &(*static_cast<decltype(changes_)*>(events->context))[index].header;
                }};
    }

    clap::OutputEvents output_events() {
        return {&told_, [](const clap::OutputEvents* events, const clap::Event* event) {
                    NEED(event->type == clap::kParameterValue);
                    const auto* told = reinterpret_cast<const clap::ParameterEvent*>(event);
                    (*static_cast<decltype(told_)*>(events->context))[told->parameter] =
                        told->value;
                    return true;
                }};
    }

    // No samples, no ports, no channels, no buffers, no events; and strange events.
    void process_nothing() {
        std::vector<float> sound(64, 1.0f);
        float* none[] = {nullptr, nullptr};
        float* some[] = {sound.data(), nullptr};
        for (float** samples : {static_cast<float**>(nullptr), &none[0], &some[0]})
            for (uint32_t num_ports : {0, 1})
                for (uint32_t num_channels : {0, 1, 2})
                    for (uint32_t size : {0, 64}) {
                        clap::AudioBuffer in = {samples, nullptr, num_channels, 0, 0}, out = in;
                        clap::Process data = {};
                        data.num_samples = size;
                        data.num_inputs = data.num_outputs = num_ports;
                        data.inputs = num_ports ? &in : nullptr;
                        data.outputs = num_ports ? &out : nullptr;
                        plugin_->process(plugin_, &data);
                    }
        add({5000, audiosr::kMix, NAN});
        add({3, 12345, 1});
        changes_.back().header.space = 9;
        add({0, audiosr::kState, 1});
        changes_.back().header.size = 3;
        flush();
        extension<clap::Parameters>("clap.params")->flush(plugin_, nullptr, nullptr);
    }

    const clap::Entry* entry_ = nullptr;
    const clap::Factory* factory_ = nullptr;
    const clap::Plugin* plugin_ = nullptr;
    std::vector<clap::ParameterEvent> changes_;
    std::vector<double> told_;
};

#pragma once

#include <cmath>
#include <cstring>
#include <map>

#include "host.h"
#include "identifiers.h"
#include "lv2_abi.h"
#include "lv2_ports.h"

namespace lv2 = audiosr::lv2;

// Without a description: the ports are where lv2_ports.h has them.
class Lv2Host final : public Host {
  public:
    Lv2Host(void* library, const Setup& setup) : Host(setup) {
        const auto list = symbol<const lv2::Descriptor* (*)(uint32_t)>(library, "lv2_descriptor");
        NEED(!list(audiosr::kNumVariants));
        for (uint32_t i = 0; i < audiosr::kNumVariants; ++i) {
            const audiosr::Variant& variant = audiosr::kVariants[i];
            if (setup.profile == variant.profile.id && setup.num_channels == variant.num_channels)
                descriptor_ = list(i);
        }
        const lv2::Feature* features[] = {&map_feature_, is_ardour() ? &midi_names_ : nullptr,
                                          nullptr};
        NEED(descriptor_);
        plugin_ = descriptor_->instantiate(descriptor_, setup.rate, "", features);
        NEED(plugin_);
        for (uint32_t id = 0; id < audiosr::kNumParameters; ++id) {
            set(id, audiosr::parameter(id).initial);
            connect(id, &controls_[id]);
        }
        connect(lv2::kLatencyPort, &latency_);
        connect(lv2::kFreewheelPort, &freewheel_);
        connect(lv2::time_port(setup.num_channels), &time_);
        freewheel_ = setup.offline;
    }

    ~Lv2Host() override { descriptor_->cleanup(plugin_); }

    void start() override {
        NEED(latency_ > 0);  // told already as the port was connected
        const lv2::Urid key = number(lv2::kBlockLengthUri), type = number(lv2::kIntUri);
        NEED(set_option(key, type, setup_.max_block) == lv2::kOptionsSuccess);
        descriptor_->activate(plugin_);
    }

    void stop() override { descriptor_->deactivate(plugin_); }

    // A control port has one value a block: the last change but those at its end.
    void process(Block& block) override {
        for (const Change& change : block.changes) set(change.id, change.plain);
        tell_song(block.song);
        for (int c = 0; c < setup_.num_channels; ++c) {
            connect(lv2::kFirstAudioPort + c, block.in[c]);
            connect(lv2::kFirstAudioPort + setup_.num_channels + c, block.out[c]);
        }
        descriptor_->run(plugin_, static_cast<uint32_t>(block.size));
    }

    void flush() override { descriptor_->run(plugin_, 0); }

    uint32_t latency() override { return static_cast<uint32_t>(latency_); }

    void set(uint32_t id, double plain) override {
        controls_[id] = static_cast<float>(id == audiosr::kBypass ? 1 - plain : plain);
    }

    double get(uint32_t id) override {
        return id == audiosr::kBypass ? 1 - controls_[id] : controls_[id];
    }

    std::string text(uint32_t id, double plain) override {  // LV2 has none of the plugin's own
        char text[128];
        audiosr::text_of(id, plain, text, sizeof text);
        return text;
    }

    bool value(uint32_t id, const std::string& text, double& plain) override {
        return audiosr::value_of(id, text.c_str(), plain);
    }

    std::string save() override {
        NEED(state()->save(plugin_, store, this, lv2::kPod | lv2::kPortable, nullptr) ==
             lv2::kSuccess);
        return state_;
    }

    bool load(const std::string& text) override {
        state_ = text;
        return state()->restore(plugin_, retrieve, this, 0, nullptr) == lv2::kSuccess;
    }

    void misuse() override {
        NEED(!descriptor_->extension_data("stranger"));
        NEED(!descriptor_->instantiate(descriptor_, 8000, "", nullptr));
        lv2::Handle poor = descriptor_->instantiate(descriptor_, 48000, "", nullptr);
        NEED(poor);  // no features: no state, no transport
        NEED(state()->save(poor, store, this, 0, nullptr) == lv2::kNoFeature);
        for (bool active : {false, true, false}) {
            if (active) descriptor_->activate(poor);
            descriptor_->run(poor, 0);
            descriptor_->run(poor, 64);  // nothing is connected
            if (active) descriptor_->deactivate(poor);
        }
        descriptor_->connect_port(poor, 12345, &controls_[0]);
        descriptor_->connect_port(poor, lv2::kLatencyPort, nullptr);
        descriptor_->cleanup(poor);
        start();
        process_strange_sequences();
        stop();
        NEED(set_option(number("stranger"), number(lv2::kIntUri), 1) == lv2::kBadKey);
        NEED(set_option(number(lv2::kBlockLengthUri), number("stranger"), 1) == lv2::kBadValue);
        NEED(!load(std::string()));
        string_type_shift_ = 1;
        NEED(!load("{}"));
        string_type_shift_ = 0;
    }

  private:
    // The numbers of a host's URIs: as they come.
    lv2::Urid number(const std::string& uri) {
        return urids_.emplace(uri, static_cast<lv2::Urid>(urids_.size() + 1)).first->second;
    }

    static lv2::Urid map_uri(void* host, const char* uri) {
        return static_cast<Lv2Host*>(host)->number(uri);
    }

    static lv2::StateStatus store(void* host, uint32_t key, const void* value, size_t size,
                                  uint32_t type, uint32_t flags) {
        auto& self = *static_cast<Lv2Host*>(host);
        NEED(key == self.number(lv2::kStateKey) && type == self.number(lv2::kStringUri));
        NEED(flags == (lv2::kPod | lv2::kPortable) && size > 0);
        self.state_.assign(static_cast<const char*>(value), size - 1);
        NEED(self.state_.size() == std::strlen(self.state_.c_str()));
        return lv2::kSuccess;
    }

    static const void* retrieve(void* host, uint32_t key, size_t* size, uint32_t* type,
                                uint32_t* flags) {
        auto& self = *static_cast<Lv2Host*>(host);
        NEED(key == self.number(lv2::kStateKey));
        *size = self.state_.size() + 1;
        *type = self.number(lv2::kStringUri) + self.string_type_shift_;
        *flags = lv2::kPod | lv2::kPortable;
        return self.state_.c_str();
    }

    const lv2::StateInterface* state() {
        const void* found = descriptor_->extension_data(lv2::kStateUri);
        NEED(found);
        return static_cast<const lv2::StateInterface*>(found);
    }

    bool is_ardour() const { return setup_.host == "Ardour"; }

    uint32_t set_option(lv2::Urid key, lv2::Urid type, int64_t number) {
        const void* const found = descriptor_->extension_data(lv2::kOptionsUri);
        NEED(found);
        const auto* const options = static_cast<const lv2::OptionsInterface*>(found);
        const int32_t value = static_cast<int32_t>(number);
        const lv2::Option list[] = {{0, 0, key, sizeof value, type, &value}, {}};
        return options->set(plugin_, list);
    }

    void connect(uint32_t port, void* data) { descriptor_->connect_port(plugin_, port, data); }

    // One time:Position at the beginning of the block, as hosts send it.
    void tell_song(const Song& song) {
        position_ = {};
        position_.frame.property = {number(lv2::kFrameUri), 0, {8, number(lv2::kLongUri)}};
        position_.frame.value = song.sample;
        position_.speed.property = {number(lv2::kSpeedUri), 0, {4, number(lv2::kFloatUri)}};
        const bool is_hidden = is_ardour() && song.sample < 0;  // that is how Ardour says it
        position_.speed.value = song.plays && !is_hidden ? 1.0f : 0.0f;
        position_.object = {0, number(lv2::kPositionUri)};
        position_.event = {0, {sizeof position_ - offsetof(Position, object),
                               number(lv2::kObjectUri)}};
        time_.sequence = {{sizeof time_ - sizeof(lv2::Atom), number(lv2::kSequenceUri)}, 0, 0};
        std::memcpy(time_.body, &position_, sizeof position_);
    }

    // Sequences cut and spoilt at every byte.
    void process_strange_sequences() {
        std::vector<float> sound(64, 1.0f);
        Block block;
        block.in.assign(setup_.num_channels, sound.data());
        block.out = block.in;
        block.size = 64;
        tell_song({true, 1000});
        const TimeBuffer good = time_;
        const auto run_with = [&](size_t place, unsigned char byte, uint32_t size) {
            time_ = good;
            reinterpret_cast<unsigned char*>(&time_)[place] = byte;
            if (time_.sequence.atom.size > size) time_.sequence.atom.size = size;
            for (int c = 0; c < setup_.num_channels; ++c) {
                connect(lv2::kFirstAudioPort + c, block.in[c]);
                connect(lv2::kFirstAudioPort + setup_.num_channels + c, block.out[c]);
            }
            descriptor_->run(plugin_, 64);
        };
        const uint32_t whole = good.sequence.atom.size;
        for (size_t place = 0; place < sizeof good; ++place)
            for (unsigned char byte : {0, 1, 7, 8, 127, 128, 255}) run_with(place, byte, whole);
        for (uint32_t size = 0; size <= whole; ++size) run_with(0, 255, size);
    }

    struct Position {
        lv2::Event event;
        lv2::Object object;
        struct {
            lv2::Property property;
            int64_t value;
        } frame;
        struct {
            lv2::Property property;
            float value, pad;
        } speed;
    };

    struct TimeBuffer {
        lv2::Sequence sequence;
        char body[sizeof(Position)];
    };

    std::map<std::string, lv2::Urid> urids_;
    lv2::Map map_ = {this, map_uri};
    lv2::Feature map_feature_ = {lv2::kMapUri, &map_};
    lv2::Feature midi_names_ = {"http://ardour.org/lv2/midnam#update", nullptr};
    const lv2::Descriptor* descriptor_ = nullptr;
    lv2::Handle plugin_ = nullptr;
    float controls_[audiosr::kNumParameters] = {}, latency_ = 0, freewheel_ = 0;
    Position position_ = {};
    alignas(8) TimeBuffer time_ = {};
    std::string state_;
    uint32_t string_type_shift_ = 0;
};

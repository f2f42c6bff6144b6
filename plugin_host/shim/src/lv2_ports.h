// Which port is which, for the plugin and for its description.
//
//     0 …                controls: the parameters in their order; `bypass` is turned round, for
//                        LV2 has `enabled`
//     kLatencyPort …     latency, freewheel
//     kFirstAudioPort …  inputs, outputs
//     time_port          where the song is; the last, so that a description without it is whole
#pragma once

#include "parameters.h"

namespace audiosr::lv2 {

enum Port : uint32_t {
    kLatencyPort = kNumParameters,
    kFreewheelPort,
    kFirstAudioPort,
};

constexpr uint32_t time_port(int num_channels) {
    return kFirstAudioPort + 2 * static_cast<uint32_t>(num_channels);
}

constexpr char kEnabledSymbol[] = "enabled", kLatencySymbol[] = "latency",
               kFreewheelSymbol[] = "freewheel", kTimeSymbol[] = "time";
constexpr char kStateKey[] = "urn:audiosr-bridge:state";

inline const char* symbol_of(uint32_t id) {
    return id == kBypass ? kEnabledSymbol : parameter(id).symbol;
}

}  // namespace audiosr::lv2

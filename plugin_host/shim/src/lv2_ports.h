// Which port is which, for the plugin and for its description.
//
//     0 …                controls: the parameters in their order; `bypass` is turned round, for
//                        LV2 has `enabled`
//     kLatencyPort …     latency, freewheel, time
//     kFirstAudioPort …  inputs, outputs
#pragma once

#include "parameters.h"

namespace audiosr::lv2 {

enum Port : uint32_t {
    kLatencyPort = kNumParameters,
    kFreewheelPort,
    kTimePort,
    kFirstAudioPort,
};

constexpr char kEnabledSymbol[] = "enabled", kLatencySymbol[] = "latency",
               kFreewheelSymbol[] = "freewheel", kTimeSymbol[] = "time";
constexpr char kStateKey[] = "urn:audiosr-bridge:state";

inline const char* symbol_of(uint32_t id) {
    return id == kBypass ? kEnabledSymbol : parameter(id).symbol;
}

}  // namespace audiosr::lv2

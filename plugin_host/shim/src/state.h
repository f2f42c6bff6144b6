// What a session keeps of the plugin: a small text, the same in every format.
//
//     {"audiosr_bridge_plugin": 1, "parameters": {"mix": 1, ...}, "settings": {"model": "lite"},
//      "model": "lite", "model_sha256": "64 hexadecimal digits"}
//
// Fields that this version does not know are carried along and written again.
#pragma once

#include <map>
#include <string>

#include "json.h"
#include "parameters.h"

namespace audiosr {

constexpr size_t kMaxStateBytes = 64 << 10;

struct State {
    double values[kNumParameters];  // plain; of outputs the initial ones
    std::string settings = "{}";    // JSON object: knobs of a preset that are no parameters
    std::string model, model_sha256;  // what rendered last; "" before anything did
    std::map<std::string, Json> unknown;

    State();
};

std::string write_state(const State& state);

// False for what is no state, or was tampered with; `state` is then as before. Parameters that
// are not in the text have their initial values.
bool read_state(const char* text, size_t size, State& state);

}  // namespace audiosr

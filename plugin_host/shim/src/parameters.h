// Every knob of the plugin, once: the three formats, the LV2 description and the Python side read
// this table.
#pragma once

#include <cstddef>
#include <cstdint>

namespace audiosr {

// The number is the VST3 and CLAP id, and the order of the LV2 control ports: it never changes.
enum Id : uint32_t {
    kMix,         // how much of the generated band is added, 0 .. 1
    kGainHf,      // dB, level of the generated band
    kCeiling,     // Hz, nothing is generated above
    kCutoff,      // Hz, where the original ends; 0: measured all along
    kSeed,
    kModel,       // a slot of `models.h`
    kRenderMode,  // RenderMode
    kFailure,     // Failure
    kBypass,
    kDelta,       // only what is added
    kState,       // outputs from here on: Status
    kProgress,    // 0 .. 1, of what the plugin waits for or renders
    kChunksWet,   // since the last reset
    kChunksDry,   // not there in time
    kChunksFailed,
    kNumParameters,
};
constexpr uint32_t kFirstOutput = kState;

enum RenderMode { kAuto, kWait, kNeverWait };
enum Failure { kSilence, kDry };

// What the plugin is about, worst last: the choices of `kState`.
enum Status {
    kIdle,         // no sound yet
    kStarting,     // looks for the daemon, or starts it; or a model is loading
    kRendering,    // the daemon works
    kWet,          // what is heard is extended
    kCached,       // likewise, without a daemon: from earlier renders
    kLate,         // the generated band is not there in time: dry
    kNoDaemon,     // none runs, and none may or can be started
    kVersion,      // plugin and daemon differ in their protocol: update one
    kNoModel,      // the daemon has no such model
    kModelChanged, // wet, but by other weights than when the session was saved
    kFailed,       // chunks of this pass could not be had; stays until the next reset
    kUnsupported,  // this rate, model or setting cannot be done here
    kNumStatus,
};

enum class Kind { number, whole, choice, toggle };

struct Parameter {
    Id id;
    const char* symbol;  // LV2 symbol, and the name in the state
    const char* name;
    const char* unit;    // "" for none
    Kind kind;
    double minimum, maximum, initial;
    const char* const* choices;  // of a choice: maximum + 1 texts
    const char* help;

    bool is_output() const { return id >= kFirstOutput; }
};

const Parameter& parameter(uint32_t id);  // id < kNumParameters

// Text as a host shows it, and back: "100.0 %", "Auto", "6000 Hz". Never allocates.
void text_of(uint32_t id, double plain, char* out, size_t size);
bool value_of(uint32_t id, const char* text, double& plain);

// Into the range, whole where it must be; NaN becomes the initial value.
double clamped(uint32_t id, double plain);
double normalised(uint32_t id, double plain);  // 0 .. 1
double plain_of(uint32_t id, double normalised);

}  // namespace audiosr

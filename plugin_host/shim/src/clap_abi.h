// The part of the CLAP 1.x binary interface that an effect without a window needs: our own
// declarations. Order of the functions and layout of the structures are the interface.
#pragma once

#include <cstdint>

namespace audiosr::clap {

struct Version {
    uint32_t major, minor, revision;
};
constexpr Version kClapVersion = {1, 1, 0};

struct Descriptor {
    Version clap_version;
    const char *id, *name, *vendor, *url, *manual_url, *support_url, *version, *description;
    const char* const* features;
};

struct Host {
    Version clap_version;
    void* data;
    const char *name, *vendor, *url, *version;
    const void* (*get_extension)(const Host*, const char* id);
    void (*request_restart)(const Host*);
    void (*request_process)(const Host*);
    void (*request_callback)(const Host*);
};

// Events

enum EventType : uint16_t { kParameterValue = 5, kTransport = 9 };
constexpr uint16_t kCoreSpace = 0;

struct Event {
    uint32_t size, time;
    uint16_t space, type;
    uint32_t flags;
};

struct ParameterEvent {
    Event header;
    uint32_t parameter;
    void* cookie;
    int32_t note;
    int16_t port, channel, key;
    double value;
};

enum TransportFlags : uint32_t { kHasSeconds = 1 << 2, kPlaying = 1 << 4 };
constexpr double kSecond = 1ll << 31;

struct TransportEvent {
    Event header;
    uint32_t flags;
    int64_t beats, seconds;  // fixed point, see kSecond
    double tempo, tempo_increment;
    int64_t loop_start_beats, loop_end_beats, loop_start_seconds, loop_end_seconds, bar_start;
    int32_t bar;
    uint16_t signature_numerator, signature_denominator;
};

struct InputEvents {
    void* context;
    uint32_t (*size)(const InputEvents*);
    const Event* (*get)(const InputEvents*, uint32_t index);
};

struct OutputEvents {
    void* context;
    bool (*try_push)(const OutputEvents*, const Event*);
};

// Plugin

struct AudioBuffer {
    float** samples;
    double** samples64;
    uint32_t num_channels, latency;
    uint64_t constant;
};

enum ProcessStatus : int32_t { kError, kContinue };

struct Process {
    int64_t steady_time;
    uint32_t num_samples;
    const TransportEvent* transport;
    const AudioBuffer* inputs;
    AudioBuffer* outputs;
    uint32_t num_inputs, num_outputs;
    const InputEvents* events_in;
    const OutputEvents* events_out;
};

struct Plugin {
    const Descriptor* descriptor;
    void* data;
    bool (*init)(const Plugin*);
    void (*destroy)(const Plugin*);
    bool (*activate)(const Plugin*, double sample_rate, uint32_t min_samples,
                     uint32_t max_samples);
    void (*deactivate)(const Plugin*);
    bool (*start_processing)(const Plugin*);
    void (*stop_processing)(const Plugin*);
    void (*reset)(const Plugin*);
    int32_t (*process)(const Plugin*, const Process*);
    const void* (*get_extension)(const Plugin*, const char* id);
    void (*on_main_thread)(const Plugin*);
};

struct Factory {
    uint32_t (*count)(const Factory*);
    const Descriptor* (*descriptor)(const Factory*, uint32_t index);
    const Plugin* (*create)(const Factory*, const Host*, const char* id);
};
constexpr char kFactoryId[] = "clap.plugin-factory";

struct Entry {
    Version clap_version;
    bool (*init)(const char* path);
    void (*deinit)();
    const void* (*get_factory)(const char* id);
};

// Extensions

struct AudioPortInfo {
    uint32_t id;
    char name[256];
    uint32_t flags, num_channels;
    const char* type;
    uint32_t in_place_pair;
};
constexpr uint32_t kMainPort = 1;

struct AudioPorts {
    uint32_t (*count)(const Plugin*, bool is_input);
    bool (*get)(const Plugin*, uint32_t index, bool is_input, AudioPortInfo*);
};

constexpr uint32_t kStepped = 1 << 0, kReadOnly = 1 << 3, kBypassSwitch = 1 << 4,
                   kAutomatable = 1 << 5, kEnum = 1 << 16;  // of ParameterInfo

struct ParameterInfo {
    uint32_t id, flags;
    void* cookie;
    char name[256], module[1024];
    double minimum, maximum, initial;
};

struct Parameters {
    uint32_t (*count)(const Plugin*);
    bool (*get_info)(const Plugin*, uint32_t index, ParameterInfo*);
    bool (*get_value)(const Plugin*, uint32_t id, double* value);
    bool (*value_to_text)(const Plugin*, uint32_t id, double value, char* text, uint32_t size);
    bool (*text_to_value)(const Plugin*, uint32_t id, const char* text, double* value);
    void (*flush)(const Plugin*, const InputEvents*, const OutputEvents*);
};

struct Latency {
    uint32_t (*get)(const Plugin*);
};

struct Tail {
    uint32_t (*get)(const Plugin*);
};

enum RenderMode : int32_t { kRealtime, kOffline };

struct Render {
    bool (*has_hard_realtime_requirement)(const Plugin*);
    bool (*set)(const Plugin*, int32_t mode);
};

struct InputStream {
    void* context;
    int64_t (*read)(const InputStream*, void* to, uint64_t size);
};

struct OutputStream {
    void* context;
    int64_t (*write)(const OutputStream*, const void* from, uint64_t size);
};

struct State {
    bool (*save)(const Plugin*, const OutputStream*);
    bool (*load)(const Plugin*, const InputStream*);
};

}  // namespace audiosr::clap

// The part of the LV2 binary interface that an effect without a window needs: our own
// declarations. Order of the functions and layout of the structures are the interface.
#pragma once

#include <cstddef>
#include <cstdint>

namespace audiosr::lv2 {

using Handle = void*;

struct Feature {
    const char* uri;
    void* data;
};

struct Descriptor {
    const char* uri;
    Handle (*instantiate)(const Descriptor*, double rate, const char* bundle,
                          const Feature* const* features);
    void (*connect_port)(Handle, uint32_t port, void* data);
    void (*activate)(Handle);
    void (*run)(Handle, uint32_t num_samples);
    void (*deactivate)(Handle);
    void (*cleanup)(Handle);
    const void* (*extension_data)(const char* uri);
};

// Numbers for URIs

using Urid = uint32_t;
constexpr char kMapUri[] = "http://lv2plug.in/ns/ext/urid#map";

struct Map {
    void* context;
    Urid (*map)(void* context, const char* uri);
};

// Options: the last of a list has no key.

constexpr char kOptionsUri[] = "http://lv2plug.in/ns/ext/options#interface",
               kBlockLengthUri[] = "http://lv2plug.in/ns/ext/buf-size#nominalBlockLength";
enum OptionsStatus : uint32_t { kOptionsSuccess = 0, kBadKey = 1 << 2, kBadValue = 1 << 3 };

struct Option {
    uint32_t context, subject;
    Urid key;
    uint32_t size;
    Urid type;
    const void* value;
};

struct OptionsInterface {
    uint32_t (*get)(Handle, Option* options);
    uint32_t (*set)(Handle, const Option* options);
};

// Atoms: a header and so many bytes, each followed by as many as fill up eight.

struct Atom {
    uint32_t size;
    Urid type;
};

struct Sequence {
    Atom atom;  // its size counts all that follows
    uint32_t unit, pad;
};

struct Event {
    int64_t time;  // samples
    Atom atom;
};

struct Object {
    uint32_t id;
    Urid type;
};

struct Property {
    Urid key, context;
    Atom value;
};

constexpr char kSequenceUri[] = "http://lv2plug.in/ns/ext/atom#Sequence",
               kObjectUri[] = "http://lv2plug.in/ns/ext/atom#Object",
               kBlankUri[] = "http://lv2plug.in/ns/ext/atom#Blank",
               kLongUri[] = "http://lv2plug.in/ns/ext/atom#Long",
               kIntUri[] = "http://lv2plug.in/ns/ext/atom#Int",
               kFloatUri[] = "http://lv2plug.in/ns/ext/atom#Float",
               kDoubleUri[] = "http://lv2plug.in/ns/ext/atom#Double",
               kStringUri[] = "http://lv2plug.in/ns/ext/atom#String";

constexpr char kPositionUri[] = "http://lv2plug.in/ns/ext/time#Position",
               kFrameUri[] = "http://lv2plug.in/ns/ext/time#frame",
               kSpeedUri[] = "http://lv2plug.in/ns/ext/time#speed";

// State

constexpr char kStateUri[] = "http://lv2plug.in/ns/ext/state#interface";
enum StateStatus : int32_t {
    kSuccess,
    kUnknownError,
    kBadType,
    kBadFlags,
    kNoFeature,
    kNoProperty,
};
enum StateFlags : uint32_t { kPod = 1, kPortable = 2 };

using Store = StateStatus (*)(void* context, uint32_t key, const void* value, size_t size,
                              uint32_t type, uint32_t flags);
using Retrieve = const void* (*)(void* context, uint32_t key, size_t* size, uint32_t* type,
                                 uint32_t* flags);

struct StateInterface {
    StateStatus (*save)(Handle, Store, void* context, uint32_t flags,
                        const Feature* const* features);
    StateStatus (*restore)(Handle, Retrieve, void* context, uint32_t flags,
                           const Feature* const* features);
};

}  // namespace audiosr::lv2

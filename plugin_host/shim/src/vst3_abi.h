// The part of the VST3 binary interface that an effect without a window needs: our own
// declarations. Order of the functions and layout of the structures are the interface.
#pragma once

#include <cstdint>
#include <cstring>

namespace audiosr::vst3 {

using Result = int32_t;
enum : Result { kNoInterface = -1, kOk = 0, kFalse = 1, kInvalid = 2, kNotImplemented = 3 };

using String128 = char16_t[128];

// An identifier of 16 bytes, from the four words of its usual notation.
struct Uid {
    char bytes[16];
    constexpr Uid(uint32_t a, uint32_t b, uint32_t c, uint32_t d) : bytes() {
        const uint32_t words[] = {a, b, c, d};
        for (int i = 0; i < 16; ++i)
            bytes[i] = static_cast<char>(words[i / 4] >> (24 - 8 * (i % 4)) & 0xff);
    }
    bool is(const char* other) const { return std::memcmp(bytes, other, sizeof bytes) == 0; }
};

constexpr Uid kUnknownId{0x00000000, 0x00000000, 0xC0000000, 0x00000046};
constexpr Uid kPluginBaseId{0x22888DDB, 0x156E45AE, 0x8358B348, 0x08190625};
constexpr Uid kFactoryId{0x7A4D811C, 0x52114A1F, 0xAED9D2EE, 0x0B43BF9F};
constexpr Uid kFactory2Id{0x0007B650, 0xF24B4C0B, 0xA464EDB9, 0xF00B2ABB};
constexpr Uid kComponentId{0xE831FF31, 0xF2D54301, 0x928EBBEE, 0x25697802};
constexpr Uid kProcessorId{0x42043F99, 0xB7DA453C, 0xA569E79D, 0x9AAEC33D};
constexpr Uid kControllerId{0xDCD7BBE3, 0x7742448D, 0xA874AACC, 0x979C759E};
constexpr Uid kHostId{0x58E595CC, 0xDB2D4969, 0x8B6AAF8C, 0x36A664E5};
constexpr Uid kContextRequirementsId{0x2A654303, 0xEF764E3D, 0x95B5FE83, 0x730EF6D0};

struct Unknown {
    virtual Result queryInterface(const char* id, void** object) = 0;
    virtual uint32_t addRef() = 0;
    virtual uint32_t release() = 0;

  protected:
    ~Unknown() = default;
};

struct PluginBase : Unknown {
    virtual Result initialize(Unknown* host) = 0;
    virtual Result terminate() = 0;
};

struct HostApplication : Unknown {
    virtual Result getName(char16_t* name) = 0;  // to a String128
    virtual Result createInstance(char* class_id, char* interface_id, void** object) = 0;
};

struct Stream : Unknown {
    virtual Result read(void* to, int32_t size, int32_t* done) = 0;
    virtual Result write(void* from, int32_t size, int32_t* done) = 0;
    virtual Result seek(int64_t position, int32_t mode, int64_t* result) = 0;
    virtual Result tell(int64_t* position) = 0;
};

// Factory

struct FactoryInfo {
    char vendor[64], url[256], email[128];
    int32_t flags;
};

struct ClassInfo {
    char id[16];
    int32_t cardinality;
    char category[32], name[64];
};

struct ClassInfo2 {
    char id[16];
    int32_t cardinality;
    char category[32], name[64];
    uint32_t flags;
    char sub_categories[128], vendor[64], version[64], sdk_version[64];
};

constexpr int32_t kUnicode = 1 << 4;  // of FactoryInfo
constexpr int32_t kManyInstances = 0x7fffffff;

struct Factory : Unknown {
    virtual Result getFactoryInfo(FactoryInfo* info) = 0;
    virtual int32_t countClasses() = 0;
    virtual Result getClassInfo(int32_t index, ClassInfo* info) = 0;
    virtual Result createInstance(const char* class_id, const char* interface_id,
                                  void** object) = 0;
};

struct Factory2 : Factory {
    virtual Result getClassInfo2(int32_t index, ClassInfo2* info) = 0;
};

// Component

enum MediaType : int32_t { kAudio, kEvent };
enum Direction : int32_t { kInput, kOutput };
constexpr uint32_t kActiveByDefault = 1;

struct BusInfo {
    int32_t media_type, direction, num_channels;
    String128 name;
    int32_t bus_type;
    uint32_t flags;
};

struct Routing {
    int32_t media_type, bus, channel;
};

struct Component : PluginBase {
    virtual Result getControllerClassId(char* id) = 0;
    virtual Result setIoMode(int32_t mode) = 0;
    virtual int32_t getBusCount(int32_t media_type, int32_t direction) = 0;
    virtual Result getBusInfo(int32_t media_type, int32_t direction, int32_t index,
                              BusInfo& info) = 0;
    virtual Result getRoutingInfo(Routing& in, Routing& out) = 0;
    virtual Result activateBus(int32_t media_type, int32_t direction, int32_t index,
                               uint8_t on) = 0;
    virtual Result setActive(uint8_t on) = 0;
    virtual Result setState(Stream* stream) = 0;
    virtual Result getState(Stream* stream) = 0;
};

// Processor

enum ProcessMode : int32_t { kRealtime, kPrefetch, kOffline };
enum SampleSize : int32_t { kSample32, kSample64 };
constexpr uint64_t kMono = 1 << 19, kStereo = 3;  // bits of the speakers

struct ProcessSetup {
    int32_t process_mode, sample_size, max_samples;
    double sample_rate;
};

struct BusBuffers {
    int32_t num_channels;
    uint64_t silence;
    float** samples;
};

struct ValueQueue : Unknown {
    virtual uint32_t getParameterId() = 0;
    virtual int32_t getPointCount() = 0;
    virtual Result getPoint(int32_t index, int32_t& offset, double& value) = 0;
    virtual Result addPoint(int32_t offset, double value, int32_t& index) = 0;
};

struct ParameterChanges : Unknown {
    virtual int32_t getParameterCount() = 0;
    virtual ValueQueue* getParameterData(int32_t index) = 0;
    virtual ValueQueue* addParameterData(const uint32_t& id, int32_t& index) = 0;
};

constexpr uint32_t kPlaying = 1 << 1;  // of ProcessContext's state

struct ProcessContext {
    uint32_t state;
    double sample_rate;
    int64_t project_samples, system_ns, continuous_samples;
    double project_quarters, bar_quarters, cycle_start, cycle_end, tempo;
    int32_t signature_numerator, signature_denominator;
    uint32_t chord;
    int32_t smpte_offset;
    uint32_t frames_per_second, frame_flags;
    int32_t samples_to_clock;
};

struct ProcessData {
    int32_t process_mode, sample_size, num_samples, num_inputs, num_outputs;
    BusBuffers *inputs, *outputs;
    ParameterChanges *changes_in, *changes_out;
    void *events_in, *events_out;
    const ProcessContext* context;
};

struct Processor : Unknown {
    virtual Result setBusArrangements(uint64_t* inputs, int32_t num_inputs, uint64_t* outputs,
                                      int32_t num_outputs) = 0;
    virtual Result getBusArrangement(int32_t direction, int32_t index, uint64_t& arrangement) = 0;
    virtual Result canProcessSampleSize(int32_t size) = 0;
    virtual uint32_t getLatencySamples() = 0;
    virtual Result setupProcessing(ProcessSetup& setup) = 0;
    virtual Result setProcessing(uint8_t on) = 0;
    virtual Result process(ProcessData& data) = 0;
    virtual uint32_t getTailSamples() = 0;
};

constexpr uint32_t kNeedTransportState = 1 << 10;

struct ContextRequirements : Unknown {
    virtual uint32_t getProcessContextRequirements() = 0;
};

// Controller

enum ParameterFlags : int32_t {
    kCanAutomate = 1 << 0,
    kIsReadOnly = 1 << 1,
    kIsList = 1 << 3,
    kIsBypass = 1 << 16,
};

struct ParameterInfo {
    uint32_t id;
    String128 title, short_title, units;
    int32_t num_steps;
    double initial;  // normalised
    int32_t unit, flags;
};

struct Controller : PluginBase {
    virtual Result setComponentState(Stream* stream) = 0;
    virtual Result setState(Stream* stream) = 0;
    virtual Result getState(Stream* stream) = 0;
    virtual int32_t getParameterCount() = 0;
    virtual Result getParameterInfo(int32_t index, ParameterInfo& info) = 0;
    virtual Result getParamStringByValue(uint32_t id, double normalised, char16_t* text) = 0;
    virtual Result getParamValueByString(uint32_t id, char16_t* text, double& normalised) = 0;
    virtual double normalizedParamToPlain(uint32_t id, double normalised) = 0;
    virtual double plainParamToNormalized(uint32_t id, double plain) = 0;
    virtual double getParamNormalized(uint32_t id) = 0;
    virtual Result setParamNormalized(uint32_t id, double normalised) = 0;
    virtual Result setComponentHandler(void* handler) = 0;
    virtual void* createView(const char* name) = 0;
};

}  // namespace audiosr::vst3

#include "parameters.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "models.h"

namespace audiosr {
namespace {

constexpr double kLowestCutoff = 500;  // what lies between this and "Auto" is no cutoff
constexpr double kManyChunks = 1e6;

struct SlotNames {
    const char* names[kNumSlots];
    constexpr SlotNames() : names() {
        for (int i = 0; i < kNumSlots; ++i) names[i] = kSlots[i].name;
    }
};
constexpr SlotNames kSlotNames;

const char* const kSwitch[] = {"Off", "On"};
const char* const kRenderModes[] = {"Auto", "Wait", "Never wait"};
const char* const kFailures[] = {"Silence", "Dry"};
const char* const kStates[kNumStatus] = {  // a colon and the reason may follow
    "Idle (no sound yet)",
    "Starting (the daemon or its model)",
    "Rendering",
    "Wet",
    "Wet, from earlier renders",
    "Dry, for the render is late",
    "No daemon (run audiosr-bridge daemon start)",
    "Plugin and daemon differ in version (update one)",
    "The daemon lacks this model",
    "Wet, by other weights than when it was saved",
    "Failed (not all could be extended; plugin.log says why)",
    "Not possible with this rate, model or setting",
};

constexpr Kind kNumber = Kind::number, kWhole = Kind::whole, kChoice = Kind::choice,
               kToggle = Kind::toggle;

const Parameter kParameters[] = {
    {kMix, "mix", "Mix", "%", kNumber, 0, 1, 1, nullptr,
     "How much of the generated high band is added"},
    {kGainHf, "gain_hf", "High-band gain", "dB", kNumber, -24, 12, 0, nullptr,
     "Level of the generated high band"},
    {kCeiling, "ceiling", "Ceiling", "Hz", kNumber, 2000, 24000, 24000, nullptr,
     "Nothing is generated above this"},
    {kCutoff, "cutoff", "Cutoff", "Hz", kNumber, 0, 24000, 0, nullptr,
     "Where the original ends and the generated band begins; 0 (Auto): measured all along"},
    {kSeed, "seed", "Seed", "", kWhole, 0, 65535, 0, nullptr,
     "The same seed gives the same samples"},
    {kModel, "model", "Model", "", kChoice, 0, kNumSlots - 1, 0, kSlotNames.names,
     "Which model generates the high band; Preset: what the session's preset says, else Lite"},
    {kRenderMode, "render_mode", "Render mode", "", kChoice, 0, kNeverWait, kAuto, kRenderModes,
     "Auto: wait for the daemon where the host renders faster than real time; Wait: always; "
     "Never wait: what is not there in time is dry"},
    {kFailure, "failure", "On failure", "", kChoice, 0, kDry, kSilence, kFailures,
     "What a bounce has where the high band could not be generated"},
    {kBypass, "bypass", "Bypass", "", kToggle, 0, 1, 0, kSwitch, "The original, equally late"},
    {kDelta, "delta", "Delta", "", kToggle, 0, 1, 0, kSwitch, "Only what is added"},
    {kState, "state", "State", "", kChoice, 0, kNumStatus - 1, kIdle, kStates,
     "What the plugin is doing, or why it is not"},
    {kProgress, "progress", "Progress", "%", kNumber, 0, 1, 0, nullptr,
     "Of what is waited for or rendered"},
    {kChunksWet, "chunks_wet", "Chunks wet", "", kWhole, 0, kManyChunks, 0, nullptr,
     "Extended, since the last reset"},
    {kChunksDry, "chunks_dry", "Chunks dry", "", kWhole, 0, kManyChunks, 0, nullptr,
     "Not there in time and so dry, since the last reset"},
    {kChunksFailed, "chunks_failed", "Chunks failed", "", kWhole, 0, kManyChunks, 0, nullptr,
     "Silent or dry as On failure says, since the last reset"},
};
static_assert(sizeof(kParameters) / sizeof(kParameters[0]) == kNumParameters);

double shown_scale(const Parameter& p) { return std::strcmp(p.unit, "%") == 0 ? 100 : 1; }

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 'a' - 'A') : c; }

bool same_word(const char* a, const char* b) {
    while (*a && lower(*a) == lower(*b)) ++a, ++b;
    return *a == 0 && *b == 0;
}

// A number at the beginning of a text, in any locale: "-3.5 dB", "0,5".
bool read_number(const char* text, double& value) {
    while (*text == ' ') ++text;
    const bool negative = *text == '-';
    if (*text == '-' || *text == '+') ++text;
    double number = 0, place = 0;
    bool any = false;
    for (; (*text >= '0' && *text <= '9') || ((*text == '.' || *text == ',') && place == 0);
         ++text) {
        if (*text == '.' || *text == ',') {
            place = 1;
            continue;
        }
        any = true;
        number = number * 10 + (*text - '0');
        place *= 10;
    }
    if (place > 0) number /= place;
    value = negative ? -number : number;
    return any && std::isfinite(value);
}

}  // namespace

const Parameter& parameter(uint32_t id) { return kParameters[id]; }

void text_of(uint32_t id, double plain, char* out, size_t size) {
    const Parameter& p = parameter(id);
    plain = clamped(id, plain);
    if (p.choices) {
        std::snprintf(out, size, "%s", p.choices[static_cast<int>(plain)]);
    } else if (id == kCutoff && plain == 0) {
        std::snprintf(out, size, "Auto");
    } else {
        // Tenths by hand: a host's locale would write a comma.
        const bool tenths = p.kind == Kind::number && p.maximum < 1000;
        const long long shown = std::llround(plain * shown_scale(p) * (tenths ? 10 : 1));
        const char *sign = shown < 0 ? "-" : "", *space = *p.unit ? " " : "";
        const long long size_of = std::abs(shown);
        if (tenths)
            std::snprintf(out, size, "%s%lld.%lld%s%s", sign, size_of / 10, size_of % 10, space,
                          p.unit);
        else
            std::snprintf(out, size, "%s%lld%s%s", sign, size_of, space, p.unit);
    }
}

bool value_of(uint32_t id, const char* text, double& plain) {
    const Parameter& p = parameter(id);
    if (p.choices)
        for (int i = 0; i <= static_cast<int>(p.maximum); ++i)
            if (same_word(text, p.choices[i])) {
                plain = i;
                return true;
            }
    if (id == kCutoff && same_word(text, "Auto")) {
        plain = 0;
        return true;
    }
    double number = 0;
    if (!read_number(text, number)) return false;
    plain = clamped(id, number / shown_scale(p));
    return true;
}

double clamped(uint32_t id, double plain) {
    const Parameter& p = parameter(id);
    if (std::isnan(plain)) return p.initial;
    plain = std::fmin(std::fmax(plain, p.minimum), p.maximum);
    if (p.kind != Kind::number) plain = std::round(plain);
    if (id == kCutoff && plain < kLowestCutoff)
        plain = plain < kLowestCutoff / 2 ? 0 : kLowestCutoff;
    return plain;
}

double normalised(uint32_t id, double plain) {
    const Parameter& p = parameter(id);
    return (clamped(id, plain) - p.minimum) / (p.maximum - p.minimum);
}

double plain_of(uint32_t id, double normalised) {
    const Parameter& p = parameter(id);
    return clamped(id, p.minimum + normalised * (p.maximum - p.minimum));
}

}  // namespace audiosr

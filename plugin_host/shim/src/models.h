// The slots of the `model` parameter: what a host can automate has to be a number.
#pragma once

namespace audiosr {

struct Slot {
    const char* name;
    const char* settings;  // JSON fields, laid over those of the preset
};

// Slot 0 is what the preset says, and `lite` where it says nothing.
constexpr Slot kSlots[] = {
    {"Preset", ""},
    {"Lite", "\"model\":\"lite\""},
    {"AudioSR fast", "\"model\":\"audiosr-basic\",\"sampler\":\"unipc\",\"steps\":10"},
    {"AudioSR", "\"model\":\"audiosr-basic\""},
    {"AudioSR quality", "\"model\":\"audiosr-basic\",\"sampler\":\"unipc\",\"steps\":50"},
    {"AudioSR speech", "\"model\":\"audiosr-speech\""},
};
constexpr int kNumSlots = sizeof(kSlots) / sizeof(kSlots[0]);

}  // namespace audiosr

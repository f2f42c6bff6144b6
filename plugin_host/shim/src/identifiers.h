// By what hosts know the plugins. None of it ever changes: sessions hold it.
#pragma once

#include <cstdint>

#include "profile.h"

namespace audiosr {

// VST3: one class a profile, mono or stereo by the arrangement of its buses.
struct Class {
    const Profile& profile;
    uint32_t id[4];
};

constexpr Class kClasses[] = {
    {kBridge, {0x9A1C5E02, 0x7B3D4F68, 0x8E21AC54, 0xD06F37B1}},
    {kLive, {0x9A1C5E02, 0x7B3D4F68, 0x8E21AC54, 0xD06F37B2}},
};
constexpr int kNumClasses = sizeof(kClasses) / sizeof(kClasses[0]);

// LV2 and CLAP: one plugin a profile and number of channels.
struct Variant {
    const Profile& profile;
    int num_channels;
    const char *name, *lv2_uri, *clap_id;
};

constexpr Variant kVariants[] = {
    {kBridge, 1, "AudioSR Bridge Mono", "urn:audiosr-bridge:bridge#mono",
     "org.audiosr-bridge.bridge.mono"},
    {kBridge, 2, "AudioSR Bridge Stereo", "urn:audiosr-bridge:bridge#stereo",
     "org.audiosr-bridge.bridge.stereo"},
    {kLive, 1, "AudioSR Bridge Live Mono", "urn:audiosr-bridge:live#mono",
     "org.audiosr-bridge.live.mono"},
    {kLive, 2, "AudioSR Bridge Live Stereo", "urn:audiosr-bridge:live#stereo",
     "org.audiosr-bridge.live.stereo"},
};
constexpr int kNumVariants = sizeof(kVariants) / sizeof(kVariants[0]);

constexpr char kVendor[] = "audiosr-bridge";
constexpr char kAbout[] = "Restores the missing high band of any sound";

}  // namespace audiosr

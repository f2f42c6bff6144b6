// The settings of a render as the daemon wants them, and the presets they begin with.
#pragma once

#include <pthread.h>

#include <cstdint>
#include <string>
#include <vector>

#include "queues.h"

namespace audiosr {

// What a session was saved with, and its parameters do not say.
struct Preset {
    std::string settings = "{}";  // JSON object
    std::string model_sha256;     // "" if it does not matter
    bool operator==(const Preset& other) const {
        return settings == other.settings && model_sha256 == other.model_sha256;
    }
};

// All presets since the plugin was loaded, by number. [any]
class Presets {
  public:
    uint32_t add(const Preset& preset);
    Preset get(uint32_t number) const;

  private:
    mutable pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
    std::vector<Preset> all_;
};

// The preset's fields, over them the slot's, over them the knobs: JSON with sorted fields, the same
// text for the same render, for chunks are named by it. Mix and gain are the plugin's own work.
std::string settings_text(const std::string& preset, const Render& render);
std::string model_name(const std::string& settings);

// Everything but what plans do not depend on.
Render plan_render(const Render& render);

}  // namespace audiosr

// Renders on disk, so that a session plays where there is no daemon: one file a chunk, in the form
// of the daemon's own chunk cache (bridge/cache.py), named by the SHA-256 of what it depends on.
//
//     <cache>/plugin/<64 hex digits>      a chunk's generated band
//     <cache>/plugin/plans/<64 digits>    where chunks lie, for settings, rate and channels
//
// Many instances in many processes share the folder: a file is there whole or not at all, and what
// vanishes is a miss.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "link.h"

namespace audiosr {

class Store {
  public:
    // A folder of this user's alone; where it cannot be had, nothing is found and nothing kept.
    // Nothing is opened or made before it is needed.
    Store(std::string folder, uint64_t max_bytes);

    // The name of chunk `index` of this input: [channels][past + first_end] samples, planar.
    static std::string key(const std::string& settings, const std::string& model_sha256,
                           int sample_rate, int num_channels, const Plan& plan, int64_t index,
                           const float* const* input);

    bool find(const std::string& key, int num_channels, int64_t num_samples,
              std::vector<float>& planar);  // whole and undamaged, or false
    void keep(const std::string& key, int num_channels, int64_t num_samples, const float* planar);

    bool find_plan(const std::string& settings, int sample_rate, int num_channels, Plan& plan,
                   std::string& model_sha256);
    void keep_plan(const std::string& settings, int sample_rate, int num_channels,
                   const Plan& plan, const std::string& model_sha256);

    void trim();  // the least recently used go where it is too much

  private:
    void stop_keeping(const std::string& why);

    std::string folder_;
    uint64_t max_bytes_, since_trim_;  // bytes written since; at first it is due
    bool keeps_ = true;
};

}  // namespace audiosr

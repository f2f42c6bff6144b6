// Where the daemon's and the plugin's things lie: as bridge/runtime_dir.py has it, variable for
// variable.
//
//     <runtime>/daemon.json        how to reach the daemon
//     <cache>/plugin               renders
//     <config>/plugin.json         what `audiosr-bridge plugin install` wrote:
//                                  {"start": ["…/audiosr-bridge", "daemon", "start"] or null,
//                                   "cache_bytes": 4294967296}
//     <state>/plugin.log           what went wrong, for people; at most 1 MiB, one older file
#pragma once

#include <atomic>
#include <string>
#include <vector>

namespace audiosr {

std::string runtime_folder();  // "" where there can be none
std::string cache_folder();
std::string config_folder();
std::string state_folder();

struct Config {
    std::vector<std::string> start;  // empty: nobody allowed it
    unsigned long long cache_bytes = 4ull << 30;
};
Config read_config();  // defaults where there is no file, or none of this user's alone

// A file that nobody else can have written or read, whole; false otherwise.
bool read_private(const std::string& path, size_t max_bytes, std::string& text);

// Run the command that starts the daemon, detached: it has nothing of the host's scheduling,
// signals, limits, files. Waits until it ends, at most so long, and not beyond `stop`. True: it
// said 0.
bool start_daemon(const std::vector<std::string>& command, int timeout_ms,
                  const std::atomic<bool>* stop = nullptr);

void log_line(const std::string& text);  // never fails, never throws, at most a few a second

}  // namespace audiosr

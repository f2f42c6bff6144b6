#include "places.h"

#include <pthread.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>

#include "clock.h"
#include "file.h"
#include "json.h"

namespace audiosr {
namespace {

constexpr size_t kMaxConfigBytes = 1 << 20, kMaxWords = 64;
constexpr off_t kMaxLogBytes = 1 << 20;
constexpr size_t kMaxLineBytes = 1000;
constexpr int kLinesPerSecond = 5;

std::string without_end_slashes(std::string path) {
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    return path;
}

// The home folder, from the user database where HOME says nothing of use.
std::string home() {
    const char* const said = ::getenv("HOME");
    if (said && said[0] == '/') return said;
    char text[4096];
    struct passwd user, *found = nullptr;
    if (::getpwuid_r(::getuid(), &user, text, sizeof text, &found) != 0 || !found) return "";
    return user.pw_dir[0] == '/' ? user.pw_dir : "";
}

// `<base>/audiosr-bridge/<name>`, where the base is an XDG folder or its default below home.
std::string standard(const char* variable, const char* below_home, const char* name) {
    const char* const said = ::getenv(variable);
    std::string base = said && said[0] == '/' ? said : home();
    if (base.empty()) return "";
    base = without_end_slashes(base);
    if (!said || said[0] != '/') base = (base == "/" ? "" : base) + below_home;
    return base + "/audiosr-bridge/" + name;
}

// What our own variable says: false if nothing; a folder must be absolute, or there is none.
bool override_of(const char* variable, std::string& folder) {
    const char* const said = ::getenv(variable);
    if (!said || !said[0]) return false;
    folder = said[0] == '/' ? without_end_slashes(said) : "";
    return true;
}

std::string folder(const char* ours, const char* variable, const char* below, const char* name) {
    std::string chosen;
    return override_of(ours, chosen) ? chosen : standard(variable, below, name);
}

bool is_our_folder(const char* path) {
    struct stat info;
    return ::stat(path, &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == ::geteuid();
}

}  // namespace

std::string runtime_folder() {
    std::string chosen;
    if (override_of("AUDIOSR_BRIDGE_RUNTIME_DIR", chosen)) return chosen;
    const char* const session = ::getenv("XDG_RUNTIME_DIR");
    if (session && session[0] == '/' && is_our_folder(session))
        return without_end_slashes(session) + "/audiosr-bridge";
    return standard("XDG_CACHE_HOME", "/.cache", "run");
}

std::string cache_folder() {
    return folder("AUDIOSR_BRIDGE_CACHE_DIR", "XDG_CACHE_HOME", "/.cache", "daemon");
}

std::string config_folder() {
    return folder("AUDIOSR_BRIDGE_CONFIG_DIR", "XDG_CONFIG_HOME", "/.config", "daemon");
}

std::string state_folder() {
    return folder("AUDIOSR_BRIDGE_STATE_DIR", "XDG_STATE_HOME", "/.local/state", "daemon");
}

bool read_private(const std::string& path, size_t max_bytes, std::string& text) {
    Descriptor file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    struct stat info;
    if (!file || ::fstat(file.get(), &info) != 0) return false;
    if (!S_ISREG(info.st_mode) || !is_private(info)) return false;
    if (info.st_size < 0 || static_cast<uint64_t>(info.st_size) > max_bytes) return false;
    std::string read(static_cast<size_t>(info.st_size), '\0');
    if (!read_whole(file.get(), &read[0], read.size())) return false;
    text.swap(read);
    return true;
}

Config read_config() {
    Config config;
    std::string text;
    Json json;
    if (!read_private(config_folder() + "/plugin.json", kMaxConfigBytes, text)) return config;
    if (!parse(text.data(), text.size(), json) || json.kind != Json::object) return config;
    const int64_t bytes = json.whole_or("cache_bytes", -1);
    if (bytes >= 0) config.cache_bytes = static_cast<unsigned long long>(bytes);
    const Json* const start = json.get("start");
    if (!start || start->kind != Json::list || start->items.size() > kMaxWords) return config;
    for (const Json& word : start->items) {
        if (word.kind != Json::text || word.string.find('\0') != std::string::npos) return config;
    }
    for (const Json& word : start->items) config.start.push_back(word.string);
    return config;
}

// ---- the log

namespace {

// One line, readable whatever came.
std::string line_of(const std::string& text, int left_out) {
    struct timespec now;
    struct tm utc;
    char head[96], tail[48] = "";
    ::clock_gettime(CLOCK_REALTIME, &now);
    ::gmtime_r(&now.tv_sec, &utc);
    const size_t size = ::strftime(head, sizeof head, "%Y-%m-%dT%H:%M:%SZ", &utc);
    ::snprintf(head + size, sizeof head - size, " [%d] ", static_cast<int>(::getpid()));
    if (left_out > 0) ::snprintf(tail, sizeof tail, " (%d lines before were left out)", left_out);
    std::string line = text.substr(0, kMaxLineBytes);
    for (char& c : line) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
    }
    return head + line + tail + '\n';
}

// Whether a line may be written now; `left_out` is how many could not be since the last.
bool may_log(int& left_out) {
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static int64_t second = 0;
    static int written = 0, waiting = 0;
    const int64_t now = now_ms() / 1000;
    ::pthread_mutex_lock(&mutex);
    if (now != second) {
        second = now;
        written = 0;
    }
    const bool may = written < kLinesPerSecond;
    left_out = may ? waiting : 0;
    waiting = may ? 0 : waiting + 1;
    written += may;
    ::pthread_mutex_unlock(&mutex);
    return may;
}

Descriptor open_log(int folder) {
    const int flags = O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    Descriptor file(::openat(folder, "plugin.log", flags, 0600));
    struct stat info;
    if (!file || ::fstat(file.get(), &info) != 0) return Descriptor();
    if (!S_ISREG(info.st_mode) || !is_private(info)) return Descriptor();
    return file;
}

// A log that is full becomes the older one; of several processes the first one does it.
void rotate(int folder, int file) {
    struct stat here, there;
    if (::flock(file, LOCK_EX | LOCK_NB) != 0 || ::fstat(file, &here) != 0) return;
    if (::fstatat(folder, "plugin.log", &there, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (here.st_dev == there.st_dev && here.st_ino == there.st_ino)
        ::renameat(folder, "plugin.log", folder, "plugin.log.1");
}

void append(const std::string& text, int left_out) {
    const Descriptor folder = open_private_folder(state_folder(), true);
    if (!folder) return;
    Descriptor file = open_log(folder.get());
    struct stat info;
    if (file && ::fstat(file.get(), &info) == 0 && info.st_size >= kMaxLogBytes) {
        rotate(folder.get(), file.get());
        file = open_log(folder.get());
    }
    const std::string line = line_of(text, left_out);
    if (file) write_whole(file.get(), line.data(), line.size());
}

}  // namespace

void log_line(const std::string& text) {
    int left_out;
    if (!may_log(left_out)) return;
    try {
        append(text, left_out);
    } catch (...) {  // no memory for a line
    }
}

}  // namespace audiosr

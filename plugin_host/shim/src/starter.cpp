// The command that starts the daemon, run so that nothing of the host comes along.
//
//     host's thread   posix_spawn ── waits, at most so long ── reads what was said, reaps
//     the command        └─ new session, / , null devices, no other descriptor, default signals
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include "clock.h"
#include "file.h"
#include "places.h"

extern char** environ;

namespace audiosr {
namespace {

constexpr int kLookMs = 20;
constexpr rlim_t kOpenFiles = 8192;
constexpr size_t kMaxSaidBytes = 4096;

// A host that brings its own libraries or Python points to them by these: not for ours.
constexpr const char* kOfTheHost[] = {"LD_PRELOAD=", "LD_LIBRARY_PATH=", "PYTHONHOME=",
                                      "PYTHONPATH="};

std::vector<char*> environment() {
    std::vector<char*> kept;
    for (char** one = environ; one && *one; ++one) {
        bool keep = true;
        for (const char* name : kOfTheHost) keep &= ::strncmp(*one, name, ::strlen(name)) != 0;
        if (keep) kept.push_back(*one);
    }
    kept.push_back(nullptr);
    return kept;
}

// The attributes and actions of a spawn, gone at its end.
struct Spawn {
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;

    // `error` becomes the command's standard error.
    explicit Spawn(int error) {
        ::posix_spawnattr_init(&attributes);
        ::posix_spawn_file_actions_init(&actions);
        sigset_t signals;
        ::sigemptyset(&signals);
        ::posix_spawnattr_setsigmask(&attributes, &signals);
        ::sigfillset(&signals);
        ::posix_spawnattr_setsigdefault(&attributes, &signals);
        const struct sched_param ordinary = {};
        ::posix_spawnattr_setschedpolicy(&attributes, SCHED_OTHER);
        ::posix_spawnattr_setschedparam(&attributes, &ordinary);
        schedule(true);
        ::posix_spawn_file_actions_adddup2(&actions, error, 2);  // first: it may be 0 or 1
        ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        ::posix_spawn_file_actions_addclosefrom_np(&actions, 3);
        ::posix_spawn_file_actions_addchdir_np(&actions, "/");
    }
    ~Spawn() {
        ::posix_spawnattr_destroy(&attributes);
        ::posix_spawn_file_actions_destroy(&actions);
    }
    Spawn(const Spawn&) = delete;
    Spawn& operator=(const Spawn&) = delete;

    void schedule(bool ordinary) {
        const int flags = POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
        ::posix_spawnattr_setflags(
            &attributes, static_cast<short>(ordinary ? flags | POSIX_SPAWN_SETSCHEDULER : flags));
    }
};

// What posix_spawn cannot set, as far as we may: each limit as high as it goes, ordinary nice.
void free_of_limits(pid_t child) {
    for (const auto which : {RLIMIT_RTTIME, RLIMIT_RTPRIO, RLIMIT_CPU, RLIMIT_FSIZE, RLIMIT_DATA,
                             RLIMIT_AS, RLIMIT_RSS, RLIMIT_NPROC, RLIMIT_NOFILE}) {
        struct rlimit limit;
        if (::prlimit(child, which, nullptr, &limit) != 0) continue;
        rlim_t wanted = limit.rlim_max;
        if (which == RLIMIT_NOFILE) {
            wanted = limit.rlim_max < kOpenFiles ? limit.rlim_max : kOpenFiles;
            if (wanted < limit.rlim_cur) continue;
        }
        limit.rlim_cur = wanted;
        ::prlimit(child, which, &limit, nullptr);
    }
    ::setpriority(PRIO_PROCESS, static_cast<id_t>(child), 0);
}

// Collects what the command says until it says no more, for at most so long.
void listen(Descriptor& said, int ms, std::string& text) {
    struct pollfd one = {said.get(), POLLIN, 0};  // a closed one is passed over: we only wait
    if (::poll(&one, 1, ms) <= 0 || !said) return;
    char bytes[512];
    const ssize_t got = ::read(said.get(), bytes, sizeof bytes);
    if (got > 0) text.append(bytes, static_cast<size_t>(got));
    if (text.size() > kMaxSaidBytes) text.erase(0, text.size() - kMaxSaidBytes);
    if (got == 0) said.close();
}

// Whether it has ended, and how: unknown (0) where the host ignores or reaps its children itself.
bool ended(pid_t child, int& status) {
    status = 0;
    const pid_t got = ::waitpid(child, &status, WNOHANG);
    return got == child || (got < 0 && errno == ECHILD);
}

std::string last_line(std::string text) {
    while (!text.empty() && text.back() == '\n') text.pop_back();
    const size_t end = text.rfind('\n');
    return end == std::string::npos ? text : text.substr(end + 1);
}

}  // namespace

bool start_daemon(const std::vector<std::string>& command, int timeout_ms,
                  const std::atomic<bool>* stop) {
    if (command.empty() || command[0].empty() || command[0][0] != '/') return false;
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
    Descriptor said(ends[0]), error(ends[1]);

    std::vector<char*> words;
    for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    Spawn spawn(error.get());
    pid_t child = 0;
    const auto run = [&] {
        return ::posix_spawn(&child, words[0], &spawn.actions, &spawn.attributes, words.data(),
                             environment().data());
    };
    int failed = run();
    if (failed == EPERM) {  // a sandbox forbids to set the scheduler, even to this
        spawn.schedule(false);
        failed = run();
    }
    if (failed) {
        log_line("the daemon cannot be started with " + command[0] + ": " + ::strerror(failed));
        return false;
    }
    error.close();
    free_of_limits(child);

    const int64_t deadline = now_ms() + timeout_ms;
    std::string text;
    int status = 0;
    while (!ended(child, status)) {
        if ((stop && *stop) || now_ms() >= deadline) {
            ::kill(-child, SIGKILL);
            for (int i = 0; i < 50 && !ended(child, status); ++i) ::poll(nullptr, 0, kLookMs);
            log_line("the daemon was not started in time");
            return false;
        }
        listen(said, kLookMs, text);
    }
    if (status == 0) return true;
    while (said && text.size() < kMaxSaidBytes) {
        const size_t before = text.size();
        listen(said, 0, text);
        if (text.size() == before) break;
    }
    log_line("the daemon could not be started: " + last_line(text));
    return false;
}

}  // namespace audiosr

// One session with the daemon of this user, over ipc: ZMTP, the handshake, signatures, credits and
// heartbeats of docs/protocol.md. Used by the renderer's thread alone; nothing here is real-time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace audiosr {

// Where chunks lie, in input samples. Chunk k is samples k·stride .. (k+1)·stride of the result,
// and depends on input samples k·stride − past .. k·stride + first_end, its predecessor's included.
struct Plan {
    int64_t stride = 0, past = 0, first_end = 0, latency = 0;

    // Whether chunks can lie so: of a millisecond at least, and none needs less than it is.
    bool is_possible(int sample_rate) const {
        return stride > 0 && stride >= sample_rate / 1000 && first_end >= stride && past >= 0 &&
               latency >= 0;
    }
    bool operator==(const Plan& o) const {
        return stride == o.stride && past == o.past && first_end == o.first_end &&
               latency == o.latency;
    }
};

struct Submit {
    std::string job;       // name, `Link::new_name`
    int sample_rate = 0, num_channels = 0;
    std::string settings;  // JSON object
    int64_t origin = 0;    // absolute time of the first sample sent; silence before
    int64_t start = 0;     // results are wanted from this absolute sample on
    bool live = false;
    const char* priority = "interactive";
    int64_t credit_bytes = 16 << 20;  // of results that may wait here to be taken
};

struct Event {
    enum Kind { none, accepted, decided, partial, progress, final, error, lost } kind = none;
    std::string job;
    Plan plan;                   // decided
    std::string model_sha256;    // decided
    int64_t start = 0;           // partial: absolute sample; accepted: the first to send
    int64_t num_samples = 0;
    std::vector<float> high;     // partial: planar
    double fraction = 0;         // progress
    std::string code, text;      // error, lost: of the protocol's table, for people
    bool retryable = false;
};

class Link {
  public:
    Link();
    ~Link();  // goodbye, within 200 ms
    Link(const Link&) = delete;
    Link& operator=(const Link&) = delete;

    // Reads the connection file, connects, says hello. On failure false, `code` and `text` of the
    // protocol's table (E_NO_DAEMON, E_VERSION, ...). Ends early when `stop` becomes true.
    bool open(const std::string& runtime_folder, int timeout_ms, const std::atomic<bool>& stop,
              std::string& code, std::string& text);
    void close();
    bool is_open() const;
    std::string daemon_version() const;

    static std::string new_name();  // 32 hexadecimal digits, random

    bool submit(const Submit& what);  // `accepted` or `error` follows; false: lost
    int64_t room(const std::string& job) const;  // samples a channel that credit allows
    // As many of these as credit allows, from `start` on (absolute); how many were taken.
    int64_t send(const std::string& job, int64_t start, const float* const* samples, int64_t n);
    bool end(const std::string& job);     // no more input: the rest comes, then `final`
    void cancel(const std::string& job);  // and forget it: no event of it comes any more

    // The next event, waited for at most so long, or `none`, also when there is room again for what
    // could not be sent. It is this that sends pings and gives credit back: call it all along.
    Event next(int timeout_ms);

  private:
    struct Inside;
    std::unique_ptr<Inside> inside_;
};

}  // namespace audiosr

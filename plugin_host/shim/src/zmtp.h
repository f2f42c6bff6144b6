// One ZeroMQ DEALER on a Unix socket: ZMTP 3.1 with the NULL mechanism, the connecting side.
//
//     greeting 64 bytes ⇄     READY ⇄     messages ⇄     of frames: flags, length, body
//
// No thread, no global state, no signal. It never blocks but where a deadline is given.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "clock.h"
#include "file.h"

namespace audiosr {

using Frames = std::vector<std::string>;

class Zmtp {
  public:
    // What a peer may send: more than this, and it is hung up on.
    static constexpr size_t kMaxFrames = 6, kMaxFrameBytes = 8 << 20;

    Zmtp() = default;
    Zmtp(const Zmtp&) = delete;
    Zmtp& operator=(const Zmtp&) = delete;

    // To ipc:///path. False: nobody is there, or no ZeroMQ ROUTER, or it did not answer in time.
    bool open(const std::string& endpoint, int64_t deadline_ms, const std::atomic<bool>& stop);
    void close();
    bool is_open() const { return bool(socket_); }

    void send(const std::vector<std::string_view>& frames);  // what cannot leave yet is kept
    void flush();
    void flush_until(int64_t deadline_ms);
    size_t unsent() const { return outbox_.size() - sent_; }  // bytes

    bool receive(Frames& message);  // the next one, if all of it is here

    // Until something came or could leave; false when the time is over, or the peer gone.
    bool wait(int64_t deadline_ms, const std::atomic<bool>& stop);

    int socket() const { return socket_.get(); }  // to wait for
    short events() const;                   // what to wait for, as `poll` has it

  private:
    Descriptor socket_;
    std::string outbox_;
    size_t sent_ = 0;

    uint8_t inbox_[64 << 10];
    size_t begin_ = 0, end_ = 0;  // of what was read and not taken
    uint8_t head_[9];
    size_t num_head_ = 0;
    std::string body_;
    size_t num_body_ = 0;
    Frames frames_;  // of the message that is arriving

    bool connect(const std::string& path, int64_t deadline_ms, const std::atomic<bool>& stop);
    bool shake_hands(int64_t deadline_ms, const std::atomic<bool>& stop);
    void put(uint8_t flags, std::string_view body);
    size_t take(void* to, size_t size);
    bool take_frame();
    size_t head_bytes() const;
    bool begin_body();
    void on_command();
};

}  // namespace audiosr

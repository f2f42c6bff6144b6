#include "zmtp.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace audiosr {
namespace {

enum Flags : uint8_t { kMore = 1, kLong = 2, kCommand = 4 };

constexpr size_t kGreetingBytes = 64, kMaxCommandBytes = 4096;
constexpr int kKernelBytes = 2 << 20;  // with less, both sides wake each other for every piece
constexpr int kTickMs = 20;            // how often somebody who waits looks whether to stop

// Signature, version 3.1, mechanism; client, and filler.
constexpr uint8_t kGreeting[kGreetingBytes] = {0xff, 0, 0,   0,   0,   0,   0,   0,  1,
                                               0x7f, 3, 1, 'N', 'U', 'L', 'L'};
constexpr size_t kMajorAt = 10, kMechanismAt = 12;

constexpr char kReadyText[] = "\5READY\13Socket-Type\0\0\0\6DEALER\10Identity\0\0\0";
constexpr std::string_view kReady(kReadyText, sizeof kReadyText);  // its zero ends the length
constexpr std::string_view kReadyName("\5READY"), kPing("\4PING"), kPong("\4PONG");
constexpr size_t kMostUnsent = 4 << 20;  // to a peer that asks and does not listen
constexpr int kMostCommands = 256;  // with no message between them: nobody has so much to say
constexpr size_t kTtlBytes = 2;  // of a PING, before what the PONG repeats

bool begins_with(std::string_view text, std::string_view beginning) {
    return text.substr(0, beginning.size()) == beginning;
}

}  // namespace

bool Zmtp::open(const std::string& endpoint, int64_t deadline_ms, const std::atomic<bool>& stop) {
    constexpr std::string_view scheme("ipc://");
    close();
    if (!stop && begins_with(endpoint, scheme) &&
        connect(endpoint.substr(scheme.size()), deadline_ms, stop) &&
        shake_hands(deadline_ms, stop)) {
        return true;
    }
    close();
    return false;
}

void Zmtp::close() {
    socket_.close();
    outbox_.clear(), body_.clear(), frames_.clear();
    sent_ = begin_ = end_ = num_head_ = num_body_ = 0;
}

bool Zmtp::connect(const std::string& path, int64_t deadline_ms, const std::atomic<bool>& stop) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof address.sun_path) {
        return false;
    }
    std::memcpy(address.sun_path, path.data(), path.size());
    socket_ = Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (socket_ && socket() <= STDERR_FILENO)  // closed in this host, but written to
        socket_ = Descriptor(fcntl(socket(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
    if (!socket_) {
        return false;
    }
    setsockopt(socket(), SOL_SOCKET, SO_SNDBUF, &kKernelBytes, sizeof kKernelBytes);
    while (::connect(socket(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
        const bool is_full = errno == EAGAIN;  // the queue of those who want to connect
        if ((!is_full && errno != EINTR) || stop || now_ms() >= deadline_ms) {
            return false;
        }
        poll(nullptr, 0, kTickMs);
    }
    return true;
}

bool Zmtp::shake_hands(int64_t deadline_ms, const std::atomic<bool>& stop) {
    outbox_.append(reinterpret_cast<const char*>(kGreeting), sizeof kGreeting);
    put(kCommand, kReady);
    flush();

    uint8_t theirs[kGreetingBytes];
    for (size_t have = 0; have < sizeof theirs;) {
        have += take(theirs + have, sizeof theirs - have);
        if (have < sizeof theirs && !wait(deadline_ms, stop)) {
            return false;
        }
    }
    if (theirs[0] != kGreeting[0] || theirs[kMajorAt] < kGreeting[kMajorAt] ||
        std::memcmp(theirs + kMechanismAt, kGreeting + kMechanismAt, 5) != 0) {
        return false;
    }
    while (!take_frame()) {
        if (!wait(deadline_ms, stop)) {
            return false;
        }
    }
    const bool is_ready = (head_[0] & kCommand) && begins_with(body_, kReadyName);
    num_head_ = 0;
    return is_ready;
}

bool Zmtp::wait(int64_t deadline_ms, const std::atomic<bool>& stop) {
    while (is_open() && !stop) {
        const int64_t left = deadline_ms - now_ms();
        pollfd one = {socket(), events(), 0};
        if (left > 0 && poll(&one, 1, static_cast<int>(left < kTickMs ? left : kTickMs)) > 0) {
            flush();
            return is_open();
        }
        if (left <= 0) {
            return false;
        }
    }
    return false;
}

short Zmtp::events() const {
    return static_cast<short>(POLLIN | (unsent() ? POLLOUT : 0));
}

void Zmtp::send(const std::vector<std::string_view>& frames) {
    if (!is_open()) {
        return;
    }
    for (size_t i = 0; i < frames.size(); ++i) {
        put(i + 1 < frames.size() ? kMore : 0, frames[i]);
    }
    flush();
}

void Zmtp::put(uint8_t flags, std::string_view body) {
    const bool is_long = body.size() > 255;
    outbox_ += static_cast<char>(flags | (is_long ? kLong : 0));
    for (int shift = is_long ? 56 : 0; shift >= 0; shift -= 8) {
        outbox_ += static_cast<char>(body.size() >> shift);
    }
    outbox_ += body;
}

void Zmtp::flush() {
    while (is_open() && unsent()) {
        const ssize_t done = ::send(socket(), outbox_.data() + sent_, unsent(),
                                    MSG_NOSIGNAL | MSG_DONTWAIT);
        if (done >= 0) {
            sent_ += static_cast<size_t>(done);
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {
            close();
        }
    }
    if (sent_ >= unsent()) {  // what is moved is less than what was sent
        outbox_.erase(0, sent_);
        sent_ = 0;
    }
}

void Zmtp::flush_until(int64_t deadline_ms) {
    for (flush(); is_open() && unsent() && now_ms() < deadline_ms; flush()) {
        pollfd one = {socket(), POLLOUT, 0};
        poll(&one, 1, kTickMs);
    }
}

bool Zmtp::receive(Frames& message) {
    for (int num_commands = 0; take_frame();) {
        const bool is_command = head_[0] & kCommand, is_last = !(head_[0] & kMore);
        num_head_ = 0;
        if (is_command) {
            on_command();
            if (++num_commands > kMostCommands) {
                close();
            }
            continue;
        }
        frames_.push_back(std::move(body_));
        if (is_last) {
            message = std::move(frames_);
            frames_.clear();
            return true;
        }
        if (frames_.size() == kMaxFrames) {
            close();
        }
    }
    return false;
}

void Zmtp::on_command() {
    const bool is_heard = unsent() < kMostUnsent;
    if (is_heard && begins_with(body_, kPing) && body_.size() >= kPing.size() + kTtlBytes) {
        std::string answer(kPong);
        answer.append(body_, kPing.size() + kTtlBytes);
        put(kCommand, answer);
        flush();
    }
}

// The frame that is arriving, into `head_` and `body_`; the caller sets `num_head_` to 0 when it
// has taken it. False: not all of it is here.
bool Zmtp::take_frame() {
    while (num_head_ < head_bytes()) {
        const size_t came = take(head_ + num_head_, head_bytes() - num_head_);
        num_head_ += came;
        if (!came || (num_head_ == head_bytes() && !begin_body())) {
            return false;
        }
    }
    while (num_body_ < body_.size()) {
        const size_t came = take(body_.data() + num_body_, body_.size() - num_body_);
        if (!came) {
            return false;
        }
        num_body_ += came;
    }
    return true;
}

// Of flags and length.
size_t Zmtp::head_bytes() const {
    return num_head_ && (head_[0] & kLong) ? 9 : 2;
}

bool Zmtp::begin_body() {
    uint64_t size = 0;
    for (size_t i = 1; i < num_head_; ++i) {
        size = size << 8 | head_[i];
    }
    if (size > (head_[0] & kCommand ? kMaxCommandBytes : kMaxFrameBytes)) {
        close();
        return false;
    }
    body_.resize(size);
    num_body_ = 0;
    return true;
}

// Up to so many bytes of what has come; 0 when there is nothing, or the peer is gone.
size_t Zmtp::take(void* to, size_t size) {
    while (is_open() && begin_ == end_) {
        const bool is_big = size >= sizeof inbox_;
        const ssize_t came = is_big ? recv(socket(), to, size, MSG_DONTWAIT)
                                    : recv(socket(), inbox_, sizeof inbox_, MSG_DONTWAIT);
        if (came > 0 && is_big) {
            return static_cast<size_t>(came);
        }
        if (came > 0) {
            begin_ = 0, end_ = static_cast<size_t>(came);
        } else if (came < 0 && errno == EAGAIN) {
            return 0;
        } else if (came == 0 || errno != EINTR) {
            close();
        }
    }
    const size_t taken = end_ - begin_ < size ? end_ - begin_ : size;
    std::memcpy(to, inbox_ + begin_, taken);
    begin_ += taken;
    return taken;
}

}  // namespace audiosr

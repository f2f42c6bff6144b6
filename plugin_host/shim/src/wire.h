// Messages as they travel (docs/protocol.md), without any socket: frames signed and numbered, and
// frames that came, checked.
//
//     ASB1 │ HMAC-SHA-256, 32 bytes │ header, JSON │ meta, JSON │ audio 0 … 2
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "json.h"

namespace audiosr {

using Key = std::array<uint8_t, 32>;
constexpr int kMajor = 1, kMinor = 1;  // of the protocol

struct Limits {
    size_t header_bytes = 4 << 10, meta_bytes = 64 << 10, frame_bytes = 8 << 20;
};

// One key for each socket and direction; up is from us to the daemon.
struct SessionKeys {
    Key control_up, control_down, work_up, work_down;
};
SessionKeys session_keys(const Key& base, const std::string& session,
                         const std::string& client_nonce, const std::string& daemon_nonce);

std::string random_hex();  // 16 bytes of the system's random source; "" if it has none

// The fields of a message that we send, as JSON with sorted names.
class Meta {
  public:
    Meta& text(const char* name, const std::string& value);
    Meta& whole(const char* name, int64_t value);
    Meta& flag(const char* name, bool value);
    Meta& json(const char* name, std::string value);
    std::string written() const;

  private:
    std::map<std::string, std::string> fields_;
};

struct Message {
    std::string type, session;
    int64_t sequence = 0, answers = -1;
    Json meta;
    std::string audio;  // the frame, if there is one
};

// A message to send. The views are of what it holds and of `audio`: send before either changes.
struct Signed {
    std::string header, meta;
    uint8_t signature[32];
    std::string_view audio;
    bool has_audio = false;

    std::vector<std::string_view> frames() const;
};
Signed signed_message(const Key& key, const std::string& type, const std::string& session,
                      int64_t sequence, const std::string& meta, const std::string* audio = {});

enum class Opened {
    good,
    strange,    // not authentic, or not of this session, or replayed: it changes nothing
    unusable,   // authentic and in order, and either malformed or of a type that we do not know
    after_gap,  // authentic, but messages before it were lost
};

// The frames of a message with this key, whatever its session and sequence.
Opened open_message(const Key& key, std::vector<std::string>& frames, Message& message,
                    const Limits& limits = {});

// What goes out on one socket of a session.
struct Outgoing {
    Key key;
    std::string session;
    int64_t sequence = 0;

    Signed message(const std::string& type, const std::string& meta,
                   const std::string* audio = {}) {
        return signed_message(key, type, session, ++sequence, meta, audio);
    }
};

// What comes in on one socket of a session.
struct Incoming {
    Key key;
    std::string session;
    int64_t sequence = 0;

    Opened open(std::vector<std::string>& frames, Message& message, const Limits& limits = {});
};

}  // namespace audiosr

#include "wire.h"

#include <cstring>
#include <sys/random.h>

#include "sha256.h"

namespace audiosr {
namespace {

constexpr std::string_view kMagic("ASB1");
constexpr size_t kFewestFrames = 4, kMostFrames = 6, kSignatureBytes = Sha256::kBytes;
constexpr size_t kNameLength = 64;

// What a message from the daemon must have; everything that is whole lies in 0 … 2^53.
enum Kind { kText, kWhole, kNumber, kFlag, kObject, kList };
struct Field {
    const char* name = nullptr;
    Kind kind = kText;
};
struct Type {
    const char* name;
    Field fields[8];
};

constexpr Type kTypes[] = {
    {"welcome",
     {{"protocol", kList}, {"version"}, {"nonce"}, {"client_nonce"}, {"session"}, {"events_key"},
      {"limits", kObject}, {"pid", kWhole}}},
    {"refused", {{"code"}, {"text"}, {"client_nonce"}}},
    {"pong", {{"uptime_seconds", kNumber}}},
    {"cancelling", {{"job"}, {"state"}}},
    {"accepted",
     {{"job"}, {"state"}, {"received", kWhole}, {"complete", kFlag}, {"credit_bytes", kWhole}}},
    {"granted", {{"job"}, {"bytes", kWhole}}},
    {"decided", {{"job"}, {"decision", kObject}, {"plan", kObject}, {"model_sha256"}}},
    {"partial",
     {{"job"}, {"start", kWhole}, {"num_channels", kWhole}, {"num_samples", kWhole}, {"dtype"},
      {"parts", kList}, {"chunk", kWhole}, {"cached", kFlag}}},
    {"progress", {{"job"}, {"state"}, {"fraction", kNumber}}},
    {"final", {{"job"}, {"report", kObject}}},
    {"error", {{"code"}, {"text"}, {"retryable", kFlag}}},
};

const Type* type_of(const std::string& name) {
    for (const Type& one : kTypes) {
        if (name == one.name) {
            return &one;
        }
    }
    return nullptr;
}

bool has(const Json& meta, const Field& field) {
    constexpr Json::Kind kKinds[] = {Json::text, Json::number, Json::number,
                                     Json::flag, Json::object, Json::list};
    const Json* found = meta.get(field.name);
    return found && found->kind == kKinds[field.kind] &&
           (field.kind != kWhole || meta.whole_or(field.name, -1) >= 0);
}

bool is_complete(const Type& type, const Json& meta) {
    for (const Field& one : type.fields) {
        if (one.name && !has(meta, one)) {
            return false;
        }
    }
    return true;
}

void sign(const Key& key, const std::vector<std::string_view>& frames, uint8_t* signature) {
    Hmac hmac(key.data(), key.size());
    for (const std::string_view one : frames) {
        uint8_t size[8];
        for (int i = 0; i < 8; ++i) {
            size[i] = static_cast<uint8_t>(uint64_t(one.size()) >> 8 * i);
        }
        hmac.add(size, sizeof size);
        hmac.add(one.data(), one.size());
    }
    hmac.finish(signature);
}

Key derived(const Key& key, const std::string& label) {
    Key made;
    Hmac hmac(key.data(), key.size());
    hmac.add(label.data(), label.size());
    hmac.finish(made.data());
    return made;
}

bool has_shape(const std::vector<std::string>& frames, const Limits& limits) {
    if (frames.size() < kFewestFrames || frames.size() > kMostFrames || frames[0] != kMagic ||
        frames[1].size() != kSignatureBytes || frames[2].size() > limits.header_bytes ||
        frames[3].size() > limits.meta_bytes) {
        return false;
    }
    for (size_t i = kFewestFrames; i < frames.size(); ++i) {
        if (frames[i].size() > limits.frame_bytes) {
            return false;
        }
    }
    return true;
}

bool is_authentic(const Key& key, const std::vector<std::string>& frames) {
    std::vector<std::string_view> others(frames.begin(), frames.end());
    others.erase(others.begin() + 1);
    uint8_t signature[kSignatureBytes];
    sign(key, others, signature);
    const auto* came = reinterpret_cast<const uint8_t*>(frames[1].data());
    return equal(signature, came, sizeof signature);
}

bool read_header(const std::string& text, Message& message) {
    Json header;
    if (!parse(text.data(), text.size(), header) || header.kind != Json::object ||
        !has(header, {"type"}) || !has(header, {"session"}) ||
        !has(header, {"sequence", kWhole}) ||
        (header.get("answers") && !has(header, {"answers", kWhole}))) {
        return false;
    }
    message.type = header.text_or("type", "");
    message.session = header.text_or("session", "");
    message.sequence = header.whole_or("sequence", 0);
    message.answers = header.whole_or("answers", -1);
    return message.type.size() <= kNameLength && message.session.size() <= kNameLength;
}

// One frame of audio for each of `parts`, of the size that was announced.
bool has_announced_audio(const Message& message, const std::vector<std::string>& frames) {
    const Json* parts = message.meta.get("parts");
    const size_t num_parts = message.type == "partial" ? parts->items.size() : 0;
    if (frames.size() != kFewestFrames + num_parts || num_parts > 2) {
        return false;
    }
    if (message.type != "partial") {
        return true;
    }
    const std::string dtype = message.meta.text_or("dtype", "");
    const double bytes = message.meta.number_or("num_channels", 0) *
                         message.meta.number_or("num_samples", 0) * (dtype == "f8" ? 8 : 4);
    for (size_t i = kFewestFrames; i < frames.size(); ++i) {
        if (static_cast<double>(frames[i].size()) != bytes) {
            return false;
        }
    }
    return num_parts > 0 && (dtype == "f4" || dtype == "f8");
}

Opened read_rest(std::vector<std::string>& frames, Message& message) {
    const std::string& meta = frames[3];
    const Type* type = type_of(message.type);
    if (!type || !parse(meta.data(), meta.size(), message.meta) ||
        message.meta.kind != Json::object || !is_complete(*type, message.meta) ||
        !has_announced_audio(message, frames)) {
        return Opened::unusable;
    }
    message.audio = frames.size() > kFewestFrames ? std::move(frames[kFewestFrames]) : "";
    return Opened::good;
}

}  // namespace

SessionKeys session_keys(const Key& base, const std::string& session,
                         const std::string& client_nonce, const std::string& daemon_nonce) {
    const Key key = derived(base, "audiosr-bridge session 1\n" + session + '\n' + client_nonce +
                                      '\n' + daemon_nonce);
    return {derived(key, "control up"), derived(key, "control down"), derived(key, "work up"),
            derived(key, "work down")};
}

std::string random_hex() {
    uint8_t bytes[16];
    return getrandom(bytes, sizeof bytes, 0) == sizeof bytes ? hex(bytes, sizeof bytes) : "";
}

Meta& Meta::text(const char* name, const std::string& value) { return json(name, quoted(value)); }

Meta& Meta::whole(const char* name, int64_t value) { return json(name, std::to_string(value)); }

Meta& Meta::flag(const char* name, bool value) { return json(name, value ? "true" : "false"); }

Meta& Meta::json(const char* name, std::string value) {
    fields_[name] = std::move(value);
    return *this;
}

std::string Meta::written() const {
    std::string text = "{";
    for (const auto& [name, value] : fields_) {
        text += (text.size() > 1 ? "," : "") + quoted(name) + ':' + value;
    }
    return text + '}';
}

std::vector<std::string_view> Signed::frames() const {
    std::vector<std::string_view> all = {
        kMagic, {reinterpret_cast<const char*>(signature), sizeof signature}, header, meta};
    if (has_audio) {
        all.push_back(audio);
    }
    return all;
}

Signed signed_message(const Key& key, const std::string& type, const std::string& session,
                      int64_t sequence, const std::string& meta, const std::string* audio) {
    Signed made;
    made.header =
        Meta().text("type", type).text("session", session).whole("sequence", sequence).written();
    made.meta = meta;
    made.has_audio = audio != nullptr;
    made.audio = audio ? std::string_view(*audio) : std::string_view();
    std::vector<std::string_view> others = made.frames();
    others.erase(others.begin() + 1);
    sign(key, others, made.signature);
    return made;
}

Opened open_message(const Key& key, std::vector<std::string>& frames, Message& message,
                    const Limits& limits) {
    if (!has_shape(frames, limits) || !is_authentic(key, frames) ||
        !read_header(frames[2], message)) {
        return Opened::strange;
    }
    return read_rest(frames, message);
}

Opened Incoming::open(std::vector<std::string>& frames, Message& message, const Limits& limits) {
    if (!has_shape(frames, limits) || !is_authentic(key, frames) ||
        !read_header(frames[2], message) || message.session != session ||
        message.sequence <= sequence) {
        return Opened::strange;
    }
    if (message.sequence > sequence + 1) {
        return Opened::after_gap;
    }
    ++sequence;
    return read_rest(frames, message);
}

}  // namespace audiosr

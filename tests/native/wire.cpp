// Does what each line of the standard input says, as JSON, and answers with a line of JSON.
#include "wire.h"

#include <clocale>
#include <iostream>

#include "sha256.h"

using namespace audiosr;

namespace {

std::string bytes_of(const std::string& digits) {
    std::string bytes(digits.size() / 2, '\0');
    if (!unhex(digits, reinterpret_cast<uint8_t*>(bytes.data()), bytes.size())) {
        std::abort();
    }
    return bytes;
}

std::string digits_of(std::string_view bytes) {
    return hex(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}

Key key_of(const Json& what, const char* name = "key") {
    Key key;
    if (!unhex(what.text_or(name, ""), key.data(), key.size())) {
        std::abort();
    }
    return key;
}

std::vector<std::string> frames_of(const Json& list) {
    std::vector<std::string> frames;
    for (const Json& one : list.items) {
        frames.push_back(bytes_of(one.string));
    }
    return frames;
}

const char* name_of(Opened opened) {
    constexpr const char* kNames[] = {"good", "strange", "unusable", "after gap"};
    return kNames[static_cast<int>(opened)];
}

std::string sign(const Json& what) {
    const Json* list = what.get("audio");
    const std::string audio = list->items.empty() ? "" : bytes_of(list->items[0].string);
    const Signed made = signed_message(key_of(what), what.text_or("type", ""),
                                       what.text_or("session", ""), what.whole_or("sequence", 0),
                                       write(*what.get("meta")),
                                       list->items.empty() ? nullptr : &audio);
    std::string frames;
    for (const std::string_view one : made.frames()) {
        frames += (frames.empty() ? "" : ",") + quoted(digits_of(one));
    }
    return '[' + frames + ']';
}

std::string told(Opened opened, const Message& message) {
    Meta meta;
    meta.text("opened", name_of(opened));
    if (opened == Opened::good) {
        meta.text("type", message.type)
            .text("session", message.session)
            .whole("sequence", message.sequence)
            .whole("answers", message.answers)
            .json("meta", write(message.meta))
            .text("audio", digits_of(message.audio));
    }
    return meta.written();
}

std::string open(const Json& what) {
    std::vector<std::string> frames = frames_of(*what.get("frames"));
    Message message;
    const Opened opened = open_message(key_of(what), frames, message);
    return told(opened, message);
}

std::string session(const Json& what) {
    Incoming incoming = {key_of(what), what.text_or("session", "")};
    std::string all;
    for (const Json& one : what.get("messages")->items) {
        std::vector<std::string> frames = frames_of(one);
        Message message;
        const Opened opened = incoming.open(frames, message);
        all += (all.empty() ? "" : ",") + quoted(name_of(opened));
    }
    return '[' + all + ']';
}

std::string keys(const Json& what) {
    const SessionKeys made =
        session_keys(key_of(what), what.text_or("session", ""), what.text_or("client_nonce", ""),
                     what.text_or("daemon_nonce", ""));
    return Meta()
        .text("control_up", hex(made.control_up.data(), 32))
        .text("control_down", hex(made.control_down.data(), 32))
        .text("work_up", hex(made.work_up.data(), 32))
        .text("work_down", hex(made.work_down.data(), 32))
        .written();
}

std::string hmac(const Json& what) {
    const std::string key = bytes_of(what.text_or("key", ""));
    const std::string data = bytes_of(what.text_or("data", ""));
    const size_t cut = static_cast<size_t>(what.whole_or("cut", 0));
    Hmac made(key.data(), key.size());
    made.add(data.data(), cut);
    made.add(data.data() + cut, data.size() - cut);
    uint8_t digest[32];
    made.finish(digest);
    return quoted(hex(digest, sizeof digest));
}

std::string json(const Json& what) {
    const std::string text = bytes_of(what.text_or("text", ""));
    Json read;
    return parse(text.data(), text.size(), read) ? quoted(write(read)) : "null";
}

}  // namespace

int main() {
    std::setlocale(LC_ALL, "");
    for (std::string line; std::getline(std::cin, line);) {
        Json what;
        if (!parse(line.data(), line.size(), what)) {
            return 1;
        }
        const std::string wanted = what.text_or("do", "");
        std::cout << (wanted == "sign"      ? sign(what)
                      : wanted == "open"    ? open(what)
                      : wanted == "session" ? session(what)
                      : wanted == "keys"    ? keys(what)
                      : wanted == "hmac"    ? hmac(what)
                                            : json(what))
                  << '\n';
    }
}

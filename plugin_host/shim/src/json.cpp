#include "json.h"

#include <clocale>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace audiosr {
namespace {

// Numbers have a point here, whatever the host has made of this process's locale.
class PlainNumbers {
  public:
    PlainNumbers() : plain_(newlocale(LC_NUMERIC_MASK, "C", nullptr)) {
        before_ = uselocale(plain_);
    }
    ~PlainNumbers() {
        uselocale(before_);
        if (plain_) {
            freelocale(plain_);
        }
    }
    PlainNumbers(const PlainNumbers&) = delete;
    PlainNumbers& operator=(const PlainNumbers&) = delete;

  private:
    locale_t plain_, before_;
};

void append_utf8(std::string& to, uint32_t point) {
    if (point < 0x80) {
        to += static_cast<char>(point);
        return;
    }
    const int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    constexpr int kLead[] = {0, 0xc0, 0xe0, 0xf0};
    to += static_cast<char>(kLead[more] | point >> 6 * more);
    for (int i = more - 1; i >= 0; --i) {
        to += static_cast<char>(0x80 | (point >> 6 * i & 0x3f));
    }
}

// The code point at `at`, and `at` behind it; false where there is no UTF-8.
bool take_utf8(const char*& at, const char* end, uint32_t& point) {
    const auto lead = static_cast<unsigned char>(*at);
    const int more = lead < 0x80 ? 0 : lead < 0xc2 ? -1 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
    if (more < 0 || lead > 0xf4 || end - at <= more) {
        return false;
    }
    point = more ? lead & (0x3f >> more) : lead;
    for (int i = 1; i <= more; ++i) {
        const auto next = static_cast<unsigned char>(at[i]);
        if ((next & 0xc0) != 0x80) {
            return false;
        }
        point = point << 6 | (next & 0x3f);
    }
    constexpr uint32_t kLeast[] = {0, 0x80, 0x800, 0x10000};
    if (point < kLeast[more] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) {
        return false;
    }
    at += more + 1;
    return true;
}

class Parser {
  public:
    Parser(const char* text, size_t size) : at_(text), end_(text + size) {}

    bool whole_text(Json& json, int max_depth) {
        return value(json, max_depth) && (skip_space(), at_ == end_);
    }

  private:
    const char *at_, *end_;

    void skip_space() {
        while (at_ < end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) {
            ++at_;
        }
    }

    bool take(char wanted) {
        const bool is_there = at_ < end_ && *at_ == wanted;
        at_ += is_there;
        return is_there;
    }

    bool take_word(const char* word) {
        const size_t size = std::strlen(word);
        if (static_cast<size_t>(end_ - at_) < size || std::memcmp(at_, word, size) != 0) {
            return false;
        }
        at_ += size;
        return true;
    }

    bool value(Json& json, int depth) {
        skip_space();
        if (at_ == end_) {
            return false;
        }
        switch (*at_) {
            case '{': return object(json, depth);
            case '[': return list(json, depth);
            case '"': json.kind = Json::text; return text(json.string);
            case 't': json.kind = Json::flag; json.is_true = true; return take_word("true");
            case 'f': json.kind = Json::flag; return take_word("false");
            case 'n': return take_word("null");
            default: return number(json);
        }
    }

    bool object(Json& json, int depth) {
        json.kind = Json::object;
        ++at_;
        skip_space();
        if (depth == 0 || take('}')) {
            return depth > 0;
        }
        do {
            std::string name;
            skip_space();
            if (!text(name) || (skip_space(), !take(':'))) {
                return false;
            }
            const auto [place, is_new] = json.fields.try_emplace(std::move(name));
            if (!is_new || !value(place->second, depth - 1)) {
                return false;
            }
            skip_space();
        } while (take(','));
        return take('}');
    }

    bool list(Json& json, int depth) {
        json.kind = Json::list;
        ++at_;
        skip_space();
        if (depth == 0 || take(']')) {
            return depth > 0;
        }
        do {
            json.items.emplace_back();
            if (!value(json.items.back(), depth - 1)) {
                return false;
            }
            skip_space();
        } while (take(','));
        return take(']');
    }

    bool text(std::string& out) {
        if (!take('"')) {
            return false;
        }
        while (at_ < end_) {
            uint32_t point;
            if (take('"')) {
                return true;
            }
            if (take('\\')) {
                if (!escaped(point)) {
                    return false;
                }
            } else if (static_cast<unsigned char>(*at_) < 0x20 || !take_utf8(at_, end_, point)) {
                return false;
            }
            append_utf8(out, point);
        }
        return false;
    }

    bool escaped(uint32_t& point) {
        constexpr char kNames[] = "\"\\/bfnrt", kMeanings[] = "\"\\/\b\f\n\r\t";
        if (take('u')) {
            return unicode(point);
        }
        const char* name = at_ < end_ && *at_ ? std::strchr(kNames, *at_) : nullptr;
        if (!name) {
            return false;
        }
        ++at_;
        point = static_cast<unsigned char>(kMeanings[name - kNames]);
        return true;
    }

    bool unicode(uint32_t& point) {
        if (!four_digits(point) || (point >= 0xdc00 && point < 0xe000)) {
            return false;
        }
        if (point < 0xd800 || point >= 0xe000) {
            return true;
        }
        uint32_t low;  // the other half of a pair
        if (!take_word("\\u") || !four_digits(low) || low < 0xdc00 || low >= 0xe000) {
            return false;
        }
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        return true;
    }

    bool four_digits(uint32_t& point) {
        if (end_ - at_ < 4) {
            return false;
        }
        point = 0;
        for (int i = 0; i < 4; ++i) {
            const char c = *at_++;
            const char small = static_cast<char>(c | 0x20);
            const bool is_digit = c >= '0' && c <= '9';
            if (!is_digit && !(small >= 'a' && small <= 'f')) {
                return false;
            }
            point = point << 4 | static_cast<uint32_t>(is_digit ? c - '0' : small - 'a' + 10);
        }
        return true;
    }

    bool digits() {
        const char* first = at_;
        while (at_ < end_ && *at_ >= '0' && *at_ <= '9') {
            ++at_;
        }
        return at_ > first;
    }

    bool number(Json& json) {
        const char* first = at_;
        take('-');
        if (!take('0') && !digits()) {
            return false;
        }
        const char* end_of_whole = at_;
        if (take('.') && !digits()) {
            return false;
        }
        if (take('e') || take('E')) {
            if (!take('+')) {
                take('-');
            }
            if (!digits()) {
                return false;
            }
        }
        json.kind = Json::number;
        json.is_whole = at_ == end_of_whole;
        json.value = std::strtod(std::string(first, at_).c_str(), nullptr);
        return std::isfinite(json.value);
    }
};

bool is_exact(double value) { return std::fabs(value) <= static_cast<double>(kMaxWhole); }

std::string written(double value, bool is_whole) {
    char text[40];
    if (is_whole && is_exact(value)) {
        std::snprintf(text, sizeof text, "%lld", static_cast<long long>(value));
        return text;
    }
    int precision = 15;  // as few digits as say this number and no other
    do {
        std::snprintf(text, sizeof text, "%.*g", precision, value);
    } while (std::strtod(text, nullptr) != value && ++precision <= 17);
    std::string made = text;
    if (!is_whole && made.find_first_of(".e") == std::string::npos) {
        made += ".0";
    }
    return made;
}

void append(std::string& to, const Json& json) {
    const char* comma = "";
    switch (json.kind) {
        case Json::null: to += "null"; break;
        case Json::flag: to += json.is_true ? "true" : "false"; break;
        case Json::number: to += written(json.value, json.is_whole); break;
        case Json::text: to += quoted(json.string); break;
        case Json::list:
            to += '[';
            for (const Json& one : json.items) {
                to += comma;
                append(to, one);
                comma = ",";
            }
            to += ']';
            break;
        case Json::object:
            to += '{';
            for (const auto& [name, one] : json.fields) {
                to += comma;
                to += quoted(name) + ':';
                append(to, one);
                comma = ",";
            }
            to += '}';
            break;
    }
}

}  // namespace

Json Json::of_number(double value) {
    Json json(number);
    json.is_whole = is_exact(value) && value == std::trunc(value);
    json.value = value;
    return json;
}

Json Json::of_flag(bool value) {
    Json json(flag);
    json.is_true = value;
    return json;
}

Json Json::of_text(std::string value) {
    Json json(text);
    json.string = std::move(value);
    return json;
}

const Json* Json::get(const char* name) const {
    const auto found = fields.find(name);
    return found == fields.end() ? nullptr : &found->second;
}

std::string Json::text_or(const char* name, const char* otherwise) const {
    const Json* found = get(name);
    return found && found->kind == text ? found->string : otherwise;
}

double Json::number_or(const char* name, double otherwise) const {
    const Json* found = get(name);
    return found && found->kind == number ? found->value : otherwise;
}

int64_t Json::whole_or(const char* name, int64_t otherwise) const {
    const Json* found = get(name);
    const bool fits = found && found->kind == number && found->is_whole &&
                      is_exact(found->value);
    return fits ? static_cast<int64_t>(found->value) : otherwise;
}

bool parse(const char* text, size_t size, Json& json, int max_depth) {
    const PlainNumbers plain;
    json = Json();
    return Parser(text, size).whole_text(json, max_depth);
}

std::string write(const Json& json) {
    const PlainNumbers plain;
    std::string text;
    append(text, json);
    return text;
}

// ASCII only; what is no UTF-8 becomes U+FFFD.
std::string quoted(const std::string& text) {
    constexpr char kMeanings[] = "\"\\\b\f\n\r\t", kNames[] = "\"\\bfnrt";
    std::string made = "\"";
    const auto escape = [&made](uint32_t unit) {
        char code[8];
        std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(unit & 0xffff));
        made += code;
    };
    for (const char *at = text.data(), *end = at + text.size(); at < end;) {
        uint32_t point;
        if (!take_utf8(at, end, point)) {
            point = 0xfffd, ++at;
        }
        const char* special = point && point < 0x80 ? std::strchr(kMeanings, int(point)) : nullptr;
        if (special) {
            made += {'\\', kNames[special - kMeanings]};
        } else if (point >= 0x20 && point < 0x7f) {
            made += static_cast<char>(point);
        } else if (point < 0x10000) {
            escape(point);
        } else {
            escape(0xd800 + ((point - 0x10000) >> 10));
            escape(0xdc00 + ((point - 0x10000) & 0x3ff));
        }
    }
    return made += '"';
}

}  // namespace audiosr

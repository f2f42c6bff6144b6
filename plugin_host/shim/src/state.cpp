#include "state.h"

namespace audiosr {
namespace {

constexpr char kMark[] = "audiosr_bridge_plugin";
constexpr double kFormat = 1;
constexpr size_t kMaxModelName = 100, kSha256Digits = 64;
const char* const kKnown[] = {kMark, "parameters", "settings", "model", "model_sha256"};

// "" where it is missing, false where it is something else.
bool read_text(const Json& from, const char* name, std::string& to) {
    const Json* field = from.get(name);
    if (field && field->kind != Json::text) return false;
    to = field ? field->string : "";
    return true;
}

bool read_values(const Json* from, double* values) {
    if (!from) return true;
    if (from->kind != Json::object) return false;
    for (uint32_t id = 0; id < kFirstOutput; ++id) {
        const Json* field = from->get(parameter(id).symbol);
        if (!field) continue;
        if (field->kind != Json::number) return false;
        values[id] = clamped(id, field->value);
    }
    return true;
}

// Knobs of the settings are numbers and words, never lists or objects.
bool read_settings(const Json* from, std::string& settings) {
    if (!from) return true;
    if (from->kind != Json::object) return false;
    for (const auto& [name, value] : from->fields)
        if (value.kind != Json::number && value.kind != Json::text) return false;
    settings = write(*from);
    return true;
}

bool is_sha256(const std::string& text) {
    return text.empty() || (text.size() == kSha256Digits &&
                            text.find_first_not_of("0123456789abcdef") == std::string::npos);
}

}  // namespace

State::State() {
    for (uint32_t id = 0; id < kNumParameters; ++id) values[id] = parameter(id).initial;
}

std::string write_state(const State& state) {
    Json json(Json::object), values(Json::object);
    for (uint32_t id = 0; id < kFirstOutput; ++id)
        values.fields[parameter(id).symbol] = Json::of_number(state.values[id]);
    json.fields = state.unknown;
    json.fields[kMark] = Json::of_number(kFormat);
    json.fields["parameters"] = values;
    json.fields["model"] = Json::of_text(state.model);
    json.fields["model_sha256"] = Json::of_text(state.model_sha256);
    Json settings;
    if (parse(state.settings.data(), state.settings.size(), settings))
        json.fields["settings"] = settings;
    return write(json);
}

bool read_state(const char* text, size_t size, State& state) {
    Json json;
    if (size > kMaxStateBytes || !parse(text, size, json) || json.kind != Json::object)
        return false;
    const Json* mark = json.get(kMark);
    if (!mark || mark->kind != Json::number || mark->value != kFormat) return false;
    State read;
    if (!read_values(json.get("parameters"), read.values) ||
        !read_settings(json.get("settings"), read.settings) ||
        !read_text(json, "model", read.model) ||
        !read_text(json, "model_sha256", read.model_sha256) || read.model.size() > kMaxModelName ||
        !is_sha256(read.model_sha256))
        return false;
    read.unknown = json.fields;
    for (const char* name : kKnown) read.unknown.erase(name);
    state = read;
    return true;
}

}  // namespace audiosr

#include "settings.h"

#include <algorithm>

#include "json.h"
#include "lock.h"
#include "models.h"

namespace audiosr {
namespace {

constexpr double kSomeCutoffHz = 4000;  // chunks are longer where any is given

void lay_over(const std::string& text, Json& to) {
    Json from;
    if (!parse(text.data(), text.size(), from) || from.kind != Json::object) return;
    for (const auto& [name, value] : from.fields) to.fields[name] = value;
}

}  // namespace

uint32_t Presets::add(const Preset& preset) {
    const Lock lock(mutex_);
    const auto known = std::find(all_.begin(), all_.end(), preset);
    const auto number = known - all_.begin();
    if (known == all_.end()) all_.push_back(preset);
    return static_cast<uint32_t>(number);
}

Preset Presets::get(uint32_t number) const {
    const Lock lock(mutex_);
    return number < all_.size() ? all_[number] : Preset();
}

std::string settings_text(const std::string& preset, const Render& render) {
    Json settings(Json::object);
    lay_over(preset, settings);
    const uint32_t slot = render.model < kNumSlots ? render.model : 0;
    lay_over("{" + std::string(kSlots[slot].settings) + "}", settings);
    settings.fields["cutoff"] =
        render.cutoff_hz > 0 ? Json::of_number(render.cutoff_hz) : Json::of_text("follow");
    settings.fields["ceiling_hz"] = Json::of_number(render.ceiling_hz);
    settings.fields["seed"] = Json::of_number(render.seed);
    settings.fields["mix"] = Json::of_number(1);
    settings.fields["gain_hf_db"] = Json::of_number(0);
    settings.fields["rate"] = Json::of_text("keep");
    return write(settings);
}

std::string model_name(const std::string& settings) {
    Json json;
    parse(settings.data(), settings.size(), json);
    return json.text_or("model", "lite");
}

Render plan_render(const Render& render) {
    Render plain;
    plain.model = render.model;
    plain.preset = render.preset;
    if (render.cutoff_hz > 0) plain.cutoff_hz = kSomeCutoffHz;
    return plain;
}

}  // namespace audiosr

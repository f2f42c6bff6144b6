// Writes what is said about the plugin elsewhere, from the same tables that it is made of:
//
//     describe manifest BINARY   LV2: which plugins are in the bundle
//     describe plugins           LV2: their ports
//     describe plain             likewise, but without the one for the song's time: some hosts
//                                (lv2proc) refuse a plugin with a port that they do not know
//     describe json              parameters.json, for people and for the Python side
//
// on stdout; run when the plugin is built.
#include <cstdio>
#include <cstring>

#include "identifiers.h"
#include "json.h"
#include "lv2_ports.h"
#include "models.h"

namespace audiosr {
namespace {

constexpr char kDescription[] = "audiosr-bridge.ttl";

// The minor and micro version of LV2 say only which of two bundles is the newer.
struct Version {
    int major = 0, minor = 0, micro = 0;
    Version() { std::sscanf(AUDIOSR_VERSION, "%d.%d.%d", &major, &minor, &micro); }
};

const char* lv2_unit(const Parameter& p) {
    if (std::strcmp(p.unit, "Hz") == 0) return "units:hz";
    if (std::strcmp(p.unit, "dB") == 0) return "units:db";
    return p.unit[0] ? "units:coef" : nullptr;  // what is 0 to 1 here is shown in per cent
}

void write_manifest(const char* binary) {
    std::printf("@prefix lv2: <http://lv2plug.in/ns/lv2core#> .\n"
                "@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .\n");
    for (const Variant& variant : kVariants)
        std::printf("\n<%s>\n\ta lv2:Plugin ;\n\tlv2:binary <%s> ;\n\trdfs:seeAlso <%s> .\n",
                    variant.lv2_uri, binary, kDescription);
}

// The head of a port; its end is `close_port`.
void open_port(uint32_t index, const char* types, const char* symbol, const char* name) {
    std::printf("%s [\n\t\ta %s ;\n\t\tlv2:index %u ;\n\t\tlv2:symbol \"%s\" ;\n"
                "\t\tlv2:name \"%s\"",
                index == 0 ? "\n\tlv2:port" : " ,", types, index, symbol, name);
}

void close_port() { std::printf("\n\t]"); }

void write_range(double initial, double minimum, double maximum) {
    std::printf(" ;\n\t\tlv2:default %.10g ;\n\t\tlv2:minimum %.10g ;\n\t\tlv2:maximum %.10g",
                initial, minimum, maximum);
}

void write_choices(const Parameter& p) {
    std::printf(" ;\n\t\tlv2:portProperty lv2:integer , lv2:enumeration ;\n\t\tlv2:scalePoint");
    for (int i = 0; i <= static_cast<int>(p.maximum); ++i)
        std::printf("%s [ rdfs:label %s ; rdf:value %d ]", i ? " ," : "",
                    quoted(p.choices[i]).c_str(), i);
}

void write_control(const Parameter& p) {
    const bool enabled = p.id == kBypass;
    open_port(p.id,
              p.is_output() ? "lv2:OutputPort , lv2:ControlPort"
                            : "lv2:InputPort , lv2:ControlPort",
              lv2::symbol_of(p.id), enabled ? "Enabled" : p.name);
    write_range(enabled ? 1 : p.initial, p.minimum, p.maximum);
    if (p.kind == Kind::choice) write_choices(p);
    if (p.kind == Kind::whole) std::printf(" ;\n\t\tlv2:portProperty lv2:integer");
    if (p.kind == Kind::toggle)
        std::printf(" ;\n\t\tlv2:portProperty lv2:integer , lv2:toggled");
    if (enabled) std::printf(" ;\n\t\tlv2:designation lv2:enabled");
    if (lv2_unit(p)) std::printf(" ;\n\t\tunits:unit %s", lv2_unit(p));
    std::printf(" ;\n\t\trdfs:comment %s",
                quoted(enabled ? "Off: the original, equally late" : p.help).c_str());
    close_port();
}

void write_host_ports(const Profile& profile) {
    open_port(lv2::kLatencyPort, "lv2:OutputPort , lv2:ControlPort", lv2::kLatencySymbol,
              "Latency");
    write_range(0, 0, static_cast<double>(latency_samples(profile, kMaxRate)));
    std::printf(" ;\n\t\tlv2:portProperty lv2:integer , lv2:reportsLatency , pprops:notOnGUI"
                " ;\n\t\tlv2:designation lv2:latency ;\n\t\tunits:unit units:frame");
    close_port();
    open_port(lv2::kFreewheelPort, "lv2:InputPort , lv2:ControlPort", lv2::kFreewheelSymbol,
              "Freewheel");
    write_range(0, 0, 1);
    std::printf(" ;\n\t\tlv2:portProperty lv2:integer , lv2:toggled , pprops:notOnGUI"
                " ;\n\t\tlv2:designation lv2:freeWheeling");
    close_port();
}

void write_time_port(int num_channels) {
    open_port(lv2::time_port(num_channels), "lv2:InputPort , atom:AtomPort", lv2::kTimeSymbol,
              "Time");
    std::printf(" ;\n\t\tatom:bufferType atom:Sequence ;\n\t\tatom:supports time:Position"
                " ;\n\t\tlv2:designation lv2:control ;\n\t\tlv2:portProperty "
                "lv2:connectionOptional");
    close_port();
}

void write_audio(uint32_t index, bool is_input, int channel, int num_channels) {
    const char* const sides[] = {"Left", "Right"};
    char symbol[16], name[32];
    std::snprintf(symbol, sizeof symbol, "%s_%d", is_input ? "in" : "out", channel + 1);
    std::snprintf(name, sizeof name, "%s%s%s", is_input ? "Input" : "Output",
                  num_channels > 1 ? " " : "", num_channels > 1 ? sides[channel] : "");
    open_port(index,
              is_input ? "lv2:InputPort , lv2:AudioPort" : "lv2:OutputPort , lv2:AudioPort",
              symbol, name);
    close_port();
}

void write_plugin(const Variant& variant, const Version& version, bool has_time) {
    std::printf("\n<%s>\n\ta lv2:Plugin , lv2:SpectralPlugin ;\n\tdoap:name \"%s\" ;\n"
                "\tdoap:license <http://opensource.org/licenses/MIT> ;\n"
                "\tlv2:project <urn:audiosr-bridge> ;\n\trdfs:comment \"%s\" ;\n"
                "\tlv2:minorVersion %d ;\n\tlv2:microVersion %d ;\n"
                "\tlv2:optionalFeature lv2:hardRTCapable , urid:map , opts:options ;\n"
                "\topts:supportedOption bufsz:nominalBlockLength ;\n"
                "\tlv2:extensionData state:interface , opts:interface ;",
                variant.lv2_uri, variant.name, kAbout,
                version.major * 100 + version.minor, version.micro);
    for (uint32_t id = 0; id < kNumParameters; ++id) write_control(parameter(id));
    write_host_ports(variant.profile);
    uint32_t index = lv2::kFirstAudioPort;
    for (const bool is_input : {true, false})
        for (int c = 0; c < variant.num_channels; ++c)
            write_audio(index++, is_input, c, variant.num_channels);
    if (has_time) write_time_port(variant.num_channels);
    std::printf(" .\n");
}

void write_plugins(bool has_time) {
    std::printf("@prefix atom: <http://lv2plug.in/ns/ext/atom#> .\n"
                "@prefix bufsz: <http://lv2plug.in/ns/ext/buf-size#> .\n"
                "@prefix doap: <http://usefulinc.com/ns/doap#> .\n"
                "@prefix foaf: <http://xmlns.com/foaf/0.1/> .\n"
                "@prefix lv2: <http://lv2plug.in/ns/lv2core#> .\n"
                "@prefix opts: <http://lv2plug.in/ns/ext/options#> .\n"
                "@prefix pprops: <http://lv2plug.in/ns/ext/port-props#> .\n"
                "@prefix rdf: <http://www.w3.org/1999/02/22-rdf-syntax-ns#> .\n"
                "@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .\n"
                "@prefix state: <http://lv2plug.in/ns/ext/state#> .\n"
                "@prefix time: <http://lv2plug.in/ns/ext/time#> .\n"
                "@prefix units: <http://lv2plug.in/ns/extensions/units#> .\n"
                "@prefix urid: <http://lv2plug.in/ns/ext/urid#> .\n\n"
                "<urn:audiosr-bridge>\n\ta doap:Project ;\n\tdoap:name \"%s\" ;\n"
                "\tdoap:maintainer [ foaf:name \"%s\" ] .\n",
                kBridge.name, kVendor);
    const Version version;
    for (const Variant& variant : kVariants) write_plugin(variant, version, has_time);
}

Json described(const Parameter& p) {
    const char* const kinds[] = {"number", "whole", "choice", "toggle"};
    Json json(Json::object);
    json.fields["id"] = Json::of_number(p.id);
    json.fields["symbol"] = Json::of_text(p.symbol);
    json.fields["lv2_symbol"] = Json::of_text(lv2::symbol_of(p.id));
    json.fields["name"] = Json::of_text(p.name);
    json.fields["unit"] = Json::of_text(p.unit);
    json.fields["kind"] = Json::of_text(kinds[static_cast<int>(p.kind)]);
    json.fields["minimum"] = Json::of_number(p.minimum);
    json.fields["maximum"] = Json::of_number(p.maximum);
    json.fields["initial"] = Json::of_number(p.initial);
    json.fields["help"] = Json::of_text(p.help);
    json.fields["output"] = Json::of_flag(p.is_output());
    json.fields["choices"] = Json(Json::list);
    for (int i = 0; p.choices && i <= static_cast<int>(p.maximum); ++i)
        json.fields["choices"].items.push_back(Json::of_text(p.choices[i]));
    return json;
}

Json described(const Profile& profile) {
    Json json(Json::object);
    json.fields["id"] = Json::of_text(profile.id);
    json.fields["name"] = Json::of_text(profile.name);
    json.fields["latency_seconds"] = Json::of_number(profile.latency_seconds);
    return json;
}

void write_json() {
    Json json(Json::object);
    json.fields["version"] = Json::of_text(AUDIOSR_VERSION);
    for (const char* name : {"parameters", "models", "vst3", "variants"})
        json.fields[name] = Json(Json::list);
    for (uint32_t id = 0; id < kNumParameters; ++id)
        json.fields["parameters"].items.push_back(described(parameter(id)));
    for (const Slot& slot : kSlots) {
        Json one(Json::object);
        one.fields["name"] = Json::of_text(slot.name);
        one.fields["settings"] = Json::of_text(slot.settings);
        json.fields["models"].items.push_back(one);
    }
    for (const Class& which : kClasses) {
        char id[33];
        std::snprintf(id, sizeof id, "%08X%08X%08X%08X", which.id[0], which.id[1], which.id[2],
                      which.id[3]);
        Json one = described(which.profile);
        one.fields["class_id"] = Json::of_text(id);
        json.fields["vst3"].items.push_back(one);
    }
    for (const Variant& variant : kVariants) {
        Json one = described(variant.profile);
        one.fields["name"] = Json::of_text(variant.name);
        one.fields["num_channels"] = Json::of_number(variant.num_channels);
        one.fields["lv2_uri"] = Json::of_text(variant.lv2_uri);
        one.fields["clap_id"] = Json::of_text(variant.clap_id);
        json.fields["variants"].items.push_back(one);
    }
    std::printf("%s\n", write(json).c_str());
}

}  // namespace
}  // namespace audiosr

int main(int count, char** arguments) {
    const char* what = count > 1 ? arguments[1] : "";
    if (std::strcmp(what, "manifest") == 0 && count == 3)
        audiosr::write_manifest(arguments[2]);
    else if (std::strcmp(what, "plugins") == 0)
        audiosr::write_plugins(true);
    else if (std::strcmp(what, "plain") == 0)
        audiosr::write_plugins(false);
    else if (std::strcmp(what, "json") == 0)
        audiosr::write_json();
    else
        return 2;
    return std::fflush(stdout) == 0 ? 0 : 1;
}

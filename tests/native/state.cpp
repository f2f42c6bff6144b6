// Laws of the state: what is written is read, and nothing else is, whatever comes.
#include "state.h"

#include <cstdlib>
#include <cstring>

#include "laws.h"

namespace {

using namespace audiosr;

// From memory that ends with the text, so that a sanitizer sees every byte too far.
bool reads(const std::string& text, State& state) {
    char* exact = static_cast<char*>(std::malloc(text.size() + (text.empty() ? 1 : 0)));
    std::memcpy(exact, text.data(), text.size());
    const bool taken = read_state(exact, text.size(), state);
    std::free(exact);
    return taken;
}

State some_state() {
    State state;
    state.values[kMix] = 0.25;
    state.values[kSeed] = 65535;
    state.values[kRenderMode] = kWait;
    state.settings = R"({"joins":"joint","steps":20})";
    state.model = "audiosr-basic";
    state.model_sha256 = std::string(64, 'a');
    return state;
}

void there_and_back() {
    const State state = some_state();
    const std::string text = write_state(state);
    State read;
    NEED(reads(text, read) && write_state(read) == text);
    NEED(read.values[kMix] == 0.25 && read.values[kSeed] == 65535);
    NEED(read.settings == state.settings && read.model == state.model);
    NEED(read.model_sha256 == state.model_sha256);
    State fresh;
    NEED(reads(write_state(fresh), read) && write_state(read) == write_state(fresh));
}

void what_is_missing_is_initial_and_what_is_strange_is_kept() {
    State state = some_state();
    NEED(reads(R"({"audiosr_bridge_plugin": 1})", state));
    NEED(write_state(state) == write_state(State()));
    NEED(reads(R"({"audiosr_bridge_plugin":1,"later":{"a":[1,2]},"parameters":{"mix":7,"x":1}})",
               state));
    NEED(state.values[kMix] == 1);  // in range
    NEED(write_state(state).find(R"("later":{"a":[1,2]})") != std::string::npos);
}

void what_is_no_state_changes_nothing() {
    const char* const bad[] = {
        "", " ", "{}", "[]", "1", "null", "garbage", "{\"audiosr_bridge_plugin\":2}",
        "{\"audiosr_bridge_plugin\":\"1\"}", "{\"audiosr_bridge_plugin\":1",
        "{\"audiosr_bridge_plugin\":1}x", "{\"audiosr_bridge_plugin\":1,\"parameters\":[]}",
        "{\"audiosr_bridge_plugin\":1,\"parameters\":{\"mix\":\"1\"}}",
        "{\"audiosr_bridge_plugin\":1,\"parameters\":{\"mix\":1e999}}",
        "{\"audiosr_bridge_plugin\":1,\"parameters\":{\"mix\":null}}",
        "{\"audiosr_bridge_plugin\":1,\"settings\":[]}",
        "{\"audiosr_bridge_plugin\":1,\"settings\":{\"steps\":{}}}",
        "{\"audiosr_bridge_plugin\":1,\"model\":1}",
        "{\"audiosr_bridge_plugin\":1,\"model_sha256\":\"abc\"}",
        "{\"audiosr_bridge_plugin\":1,\"model_sha256\":\"../../../../etc/passwd\"}",
    };
    State state = some_state();
    const std::string before = write_state(state);
    for (const char* text : bad) {
        NEED(!reads(text, state));
        NEED(write_state(state) == before);
    }
    const std::string start = "{\"audiosr_bridge_plugin\":1,\"later\":";
    NEED(!reads(start + "\"" + std::string(kMaxStateBytes, 'x') + "\"}", state));
    NEED(!reads(start + std::string(30000, '[') + std::string(30000, ']') + "}", state));
    NEED(!reads(start.substr(0, start.size() - 8) + "\"model\":\"" + std::string(1000, 'm') + "\"}",
                state));
    NEED(write_state(state) == before);
}

// Bytes changed, cut out and put in: taken or not, never a crash, and a taken one is written.
void spoilt_texts() {
    const std::string good = write_state(some_state());
    for (size_t size = 0; size < good.size(); ++size) {
        State state;
        NEED(!reads(good.substr(0, size), state));
    }
    for (int i = 0; i < 15000; ++i) {
        std::string text = good;
        for (uint32_t n = 1 + random_number() % 4; n > 0; --n) {
            const size_t place = random_number() % text.size();
            const char grammar = "{}[]\":,\\019eE-+.tfnu \t"[random_number() % 22];
            const char byte = random_number() % 3 ? grammar : static_cast<char>(random_number());
            switch (random_number() % 3) {
                case 0: text[place] = byte; break;
                case 1: text.insert(place, 1, byte); break;
                default: text.erase(place, 1 + random_number() % 3);
            }
            if (text.empty()) text = "{";
        }
        State state = some_state(), again;
        const std::string before = write_state(state);
        if (!reads(text, state)) {
            NEED(write_state(state) == before);
            continue;
        }
        for (uint32_t id = 0; id < kFirstOutput; ++id)
            NEED(clamped(id, state.values[id]) == state.values[id]);
        NEED(reads(write_state(state), again) && write_state(again) == write_state(state));
    }
}

}  // namespace

int main() {
    there_and_back();
    what_is_missing_is_initial_and_what_is_strange_is_kept();
    what_is_no_state_changes_nothing();
    spoilt_texts();
}

// Laws of the reader of LV2's song positions: what hosts send is read, and of anything else not a
// byte beyond its size (the memory ends there, and a sanitizer watches).
#include "lv2_time.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "laws.h"

namespace {

using namespace audiosr;
using namespace audiosr::lv2;

Urid number_of(void* numbers, const char* uri) {
    auto& known = *static_cast<std::map<std::string, Urid>*>(numbers);
    return known.emplace(uri, static_cast<Urid>(known.size() + 1)).first->second;
}

std::map<std::string, Urid> numbers;
const Map map = {&numbers, number_of};

// A sequence as hosts write it.
class Writer {
  public:
    Writer() { add(Sequence{{0, number_of(&numbers, kSequenceUri)}, 0, 0}); }

    void position(int64_t time, const std::string& properties) {
        const uint32_t size = static_cast<uint32_t>(sizeof(Object) + properties.size());
        add(Event{time, {size, number_of(&numbers, kObjectUri)}});
        add(Object{0, number_of(&numbers, kPositionUri)});
        bytes_ += properties;
    }

    // A property with its padding.
    template <typename Value>
    static std::string property(const char* key, const char* type, Value value) {
        std::string bytes(sizeof(Property) + 8, '\0');
        const Property head = {number_of(&numbers, key), 0,
                               {sizeof value, number_of(&numbers, type)}};
        std::memcpy(&bytes[0], &head, sizeof head);
        std::memcpy(&bytes[sizeof head], &value, sizeof value);
        return bytes;
    }

    std::string finished() const {
        std::string whole = bytes_;
        const uint32_t size = static_cast<uint32_t>(whole.size() - sizeof(Atom));
        std::memcpy(&whole[0], &size, sizeof size);
        return whole;
    }

  private:
    template <typename Value>
    void add(const Value& value) {
        bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
    }

    std::string bytes_;
};

struct Told {
    int64_t offset;
    Transport transport;
};

// From memory of just this size; the size that the sequence claims is cut to it.
std::vector<Told> read(std::string bytes, const TimeUrids& urids) {
    uint32_t claimed = 0;
    std::memcpy(&claimed, bytes.data(), sizeof claimed);
    const uint32_t most = static_cast<uint32_t>(bytes.size() - sizeof(Atom));
    if (claimed > most) std::memcpy(&bytes[0], &most, sizeof most);
    char* exact = static_cast<char*>(std::malloc(bytes.size()));
    std::memcpy(exact, bytes.data(), bytes.size());
    std::vector<Told> all;
    Positions positions(urids, exact);
    Told told = {};
    while (positions.next(told.offset, told.transport)) all.push_back(told);
    std::free(exact);
    return all;
}

std::string some_positions() {
    Writer writer;
    writer.position(3, Writer::property<int64_t>(kFrameUri, kLongUri, 48000) +
                           Writer::property<float>("urn:other", kFloatUri, 5) +
                           Writer::property<float>(kSpeedUri, kFloatUri, 1));
    writer.position(100, Writer::property<float>(kSpeedUri, kFloatUri, 0) +
                             Writer::property<int64_t>(kFrameUri, kLongUri, 1));
    writer.position(200, Writer::property<int32_t>(kFrameUri, kIntUri, -7) +
                             Writer::property<double>(kSpeedUri, kDoubleUri, 1));
    writer.position(300, Writer::property<double>(kSpeedUri, kDoubleUri, 1));
    writer.position(400, Writer::property<int64_t>(kFrameUri, kLongUri, 5) +
                             Writer::property<float>(kSpeedUri, kFloatUri, 2));
    return writer.finished();
}

void what_hosts_send_is_read(const TimeUrids& urids) {
    const std::vector<Told> told = read(some_positions(), urids);
    NEED(told.size() == 5);
    NEED(told[0].offset == 3 && told[0].transport.known && told[0].transport.sample == 48000);
    NEED(told[1].offset == 100 && !told[1].transport.known);  // it stands
    NEED(told[2].transport.known && told[2].transport.sample == -7);
    NEED(!told[3].transport.known);  // nobody knows where
    NEED(!told[4].transport.known);  // twice as fast
    NEED(read(Writer().finished(), urids).empty());
    NEED(read(some_positions(), TimeUrids()).empty());
    Told none = {};
    NEED(!Positions(urids, nullptr).next(none.offset, none.transport));
}

void nothing_is_read_beyond(const TimeUrids& urids) {
    const std::string good = some_positions();
    for (size_t size = sizeof(Atom); size <= good.size(); ++size) {
        read(good.substr(0, size), urids);
    }
    for (int i = 0; i < 100000; ++i) {
        std::string bytes = good.substr(0, sizeof(Atom) + random_number() % good.size());
        for (uint32_t n = random_number() % 6; n > 0; --n) {
            const char values[] = {0, 1, 4, 7, 8, 16, 127, -128, -1};
            bytes[random_number() % bytes.size()] = values[random_number() % sizeof values];
        }
        NEED(read(bytes, urids).size() <= good.size() / sizeof(Event));
    }
}

}  // namespace

int main() {
    const TimeUrids urids(map);
    what_hosts_send_is_read(urids);
    nothing_is_read_beyond(urids);
}

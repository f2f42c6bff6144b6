#include "lv2_time.h"

#include <cmath>
#include <cstring>

namespace audiosr::lv2 {
namespace {

// A `Value` at a place, if it ends before the end; the place goes behind it.
template <typename Value>
bool read(const char*& at, const char* end, Value& value) {
    if (static_cast<size_t>(end - at) < sizeof value) return false;
    std::memcpy(&value, at, sizeof value);
    at += sizeof value;
    return true;
}

// The end of a body of so many bytes; nullptr if it lies beyond the end.
const char* body_end(const char* at, const char* end, uint32_t size) {
    return size <= static_cast<size_t>(end - at) ? at + size : nullptr;
}

const char* padded(const char* at, const char* body_end, const char* end) {
    const size_t size = (static_cast<size_t>(body_end - at) + 7) / 8 * 8;
    return size <= static_cast<size_t>(end - at) ? at + size : end;
}

}  // namespace

TimeUrids::TimeUrids(const Map& map) {
    const auto number = [&](const char* uri) { return map.map(map.context, uri); };
    sequence = number(kSequenceUri);
    object = number(kObjectUri);
    blank = number(kBlankUri);
    long_number = number(kLongUri);
    int_number = number(kIntUri);
    float_number = number(kFloatUri);
    double_number = number(kDoubleUri);
    position = number(kPositionUri);
    frame = number(kFrameUri);
    speed = number(kSpeedUri);
}

Positions::Positions(const TimeUrids& urids, const void* sequence) : urids_(urids) {
    if (!sequence || !urids.sequence) return;
    Sequence head;
    std::memcpy(&head.atom, sequence, sizeof head.atom);
    if (head.atom.type != urids.sequence || head.atom.size < sizeof head - sizeof head.atom) return;
    at_ = static_cast<const char*>(sequence) + sizeof head;
    end_ = static_cast<const char*>(sequence) + sizeof head.atom + head.atom.size;
}

bool Positions::next(int64_t& offset, Transport& transport) {
    Event event;
    while (at_ != end_ && read(at_, end_, event)) {
        const char *body = at_, *end = body_end(at_, end_, event.atom.size);
        if (!end) break;
        at_ = padded(at_, end, end_);
        if ((event.atom.type == urids_.object || event.atom.type == urids_.blank) &&
            read_position(body, end, transport)) {
            offset = event.time;
            return true;
        }
    }
    at_ = end_;
    return false;
}

bool Positions::read_position(const char* at, const char* end, Transport& transport) const {
    Object object;
    if (!read(at, end, object) || object.type != urids_.position) return false;
    bool has_frame = false;
    double speed = 0;
    int64_t frame = 0;
    Property property;
    while (read(at, end, property)) {
        const char* value_end = body_end(at, end, property.value.size);
        if (!value_end) break;
        const char* value = at;
        const Urid type = property.value.type;
        int32_t small = 0;
        float single = 0;
        if (property.key == urids_.frame && type == urids_.long_number)
            has_frame = read(value, value_end, frame);
        else if (property.key == urids_.frame && type == urids_.int_number) {
            has_frame = read(value, value_end, small);
            frame = small;
        } else if (property.key == urids_.speed && type == urids_.float_number) {
            if (read(value, value_end, single)) speed = single;
        } else if (property.key == urids_.speed && type == urids_.double_number) {
            read(value, value_end, speed);
        }
        at = padded(at, value_end, end);
    }
    // At another speed the song does not pass sample by sample.
    transport = {has_frame && speed == 1, frame};
    return true;
}

}  // namespace audiosr::lv2

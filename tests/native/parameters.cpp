// Laws of the parameters: whatever number or text comes, a value in range goes.
#include "parameters.h"

#include <cmath>
#include <cstring>
#include <initializer_list>
#include <limits>

#include "laws.h"

namespace {

using namespace audiosr;

bool in_range(uint32_t id, double plain) {
    const Parameter& p = parameter(id);
    return plain >= p.minimum && plain <= p.maximum &&
           (p.kind == Kind::number || plain == std::floor(plain));
}

void any_number(uint32_t id) {
    const double infinity = std::numeric_limits<double>::infinity();
    for (double plain :
         {-infinity, infinity, std::nan(""), 1e300, -1e300, 0.0, -0.0, 0.5, 1e-300}) {
        NEED(in_range(id, clamped(id, plain)));
        NEED(in_range(id, plain_of(id, plain)));
        char text[200];
        text_of(id, plain, text, sizeof text);
        NEED(text[0] != 0);
    }
    for (int i = 0; i <= 1000; ++i) {
        const double plain = plain_of(id, i / 1000.0);
        NEED(in_range(id, plain) && clamped(id, plain) == plain);
        NEED(std::fabs(plain_of(id, normalised(id, plain)) - plain) <= 1e-9 * std::fabs(plain));
    }
    NEED(clamped(id, parameter(id).initial) == parameter(id).initial);
}

void any_text(uint32_t id) {
    double plain = 0;
    for (const char* text : {"", " ", "-", "+", ".", ",", "--1", "nan", "inf", "zzz", "e5"})
        NEED(!value_of(id, text, plain));
    char digits[1000];
    std::memset(digits, '9', sizeof digits - 1);
    digits[sizeof digits - 1] = 0;
    NEED(!value_of(id, digits, plain) || in_range(id, plain));
    for (int i = 0; i < 20000; ++i) {
        char text[12] = {};
        for (int c = 0; c < 11; ++c)
            text[c] = "0123456789.,+- %HdBzx\xff\x80"[random_number() % 23];
        if (value_of(id, text, plain)) NEED(in_range(id, plain));
    }
}

void small_buffers(uint32_t id) {
    char text[4] = {1, 1, 1, 1};
    for (size_t size = 0; size < sizeof text; ++size) {
        text_of(id, parameter(id).maximum, text, size);
        NEED(text[3] == 1);
    }
}

bool reads(uint32_t id, const char* text, double wanted) {
    double plain = -1;
    return value_of(id, text, plain) && std::fabs(plain - wanted) < 1e-9;
}

bool shows(uint32_t id, double plain, const char* wanted) {
    char text[100];
    text_of(id, plain, text, sizeof text);
    return std::strcmp(text, wanted) == 0;
}

void people_write_it_so() {
    NEED(reads(kMix, "50 %", 0.5) && reads(kMix, "50", 0.5) && reads(kMix, "12,5%", 0.125));
    NEED(reads(kGainHf, "-3.5 dB", -3.5) && reads(kGainHf, "+2", 2) && reads(kGainHf, "99", 12));
    NEED(reads(kCutoff, "Auto", 0) && reads(kCutoff, "auto", 0) && reads(kCutoff, "6000 Hz", 6000));
    NEED(reads(kCutoff, "100", 0) && reads(kCutoff, "400", 500) && reads(kCutoff, "0", 0));
    NEED(reads(kRenderMode, "never WAIT", kNeverWait) && reads(kRenderMode, "1", kWait));
    NEED(reads(kBypass, "On", 1) && reads(kBypass, "off", 0) && reads(kSeed, "70000", 65535));
    NEED(shows(kMix, 1, "100.0 %") && shows(kMix, 0.123, "12.3 %") && shows(kProgress, 0, "0.0 %"));
    NEED(shows(kGainHf, -3.04, "-3.0 dB") && shows(kGainHf, -0.01, "0.0 dB"));
    NEED(shows(kCutoff, 0, "Auto") && shows(kCutoff, 6000.4, "6000 Hz"));
    NEED(shows(kSeed, 42, "42") && shows(kBypass, 1, "On") && shows(kFailure, 0, "Silence"));
}

}  // namespace

int main() {
    for (uint32_t id = 0; id < kNumParameters; ++id) {
        any_number(id);
        any_text(id);
        small_buffers(id);
    }
    people_write_it_so();
}

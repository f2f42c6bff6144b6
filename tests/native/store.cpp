// One word to a store: store FOLDER MAX_BYTES WORD ...; samples are raw float32 files.
//
//     key SETTINGS MODEL RATE CHANNELS STRIDE PAST FIRST_END INDEX FILE
//     keep KEY CHANNELS SAMPLES FILE        find KEY CHANNELS SAMPLES FILE
//     keep_plan SETTINGS RATE CHANNELS STRIDE PAST FIRST_END LATENCY MODEL
//     find_plan SETTINGS RATE CHANNELS      trim      nothing
#include "store.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

using namespace audiosr;

static std::vector<float> read_file(const char* path) {
    std::vector<float> samples;
    float one;
    FILE* const file = fopen(path, "rb");
    if (!file) exit(3);
    while (fread(&one, sizeof one, 1, file) == 1) samples.push_back(one);
    fclose(file);
    return samples;
}

static void write_file(const char* path, const std::vector<float>& samples) {
    FILE* const file = fopen(path, "wb");
    if (!file || samples.empty()) {
        if (!file || fclose(file) != 0) exit(3);
        return;
    }
    if (fwrite(samples.data(), sizeof(float), samples.size(), file) != samples.size())
        exit(3);
    fclose(file);
}

int main(int count, char** words) {
    if (count < 4) return 2;
    signal(SIGXFSZ, SIG_IGN);
    Store store(words[1], strtoull(words[2], nullptr, 10));
    const std::string what = words[3];
    const auto text = [&](int i) -> const char* { return i + 4 < count ? words[i + 4] : ""; };
    const auto whole = [&](int i) { return atoll(text(i)); };
    const auto small = [&](int i) { return static_cast<int>(whole(i)); };

    if (what == "key") {
        const Plan plan = {whole(4), whole(5), whole(6), 0};
        const std::vector<float> samples = read_file(text(8));
        std::vector<const float*> channels;
        for (int c = 0; c < small(3); ++c)
            channels.push_back(samples.data() + c * (plan.past + plan.first_end));
        puts(Store::key(text(0), text(1), small(2), small(3), plan, whole(7), channels.data())
                 .c_str());
    } else if (what == "keep") {
        store.keep(text(0), small(1), whole(2), read_file(text(3)).data());
    } else if (what == "find") {
        std::vector<float> planar;
        const bool found = store.find(text(0), small(1), whole(2), planar);
        puts(found ? "found" : "missed");
        if (found) write_file(text(3), planar);
    } else if (what == "keep_plan") {
        store.keep_plan(text(0), small(1), small(2), {whole(3), whole(4), whole(5), whole(6)},
                        text(7));
    } else if (what == "find_plan") {
        Plan plan;
        std::string model;
        if (!store.find_plan(text(0), small(1), small(2), plan, model)) return puts("missed") < 0;
        printf("%lld %lld %lld %lld %s\n", static_cast<long long>(plan.stride),
               static_cast<long long>(plan.past), static_cast<long long>(plan.first_end),
               static_cast<long long>(plan.latency), model.c_str());
    } else if (what == "trim") {
        store.trim();
    }
    return 0;
}

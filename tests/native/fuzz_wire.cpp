// Very many damaged messages: nothing is read outside of them, and nothing damaged is taken.
//
//     fuzz_wire CASES SEED < messages, one a line: a JSON list of frames in hexadecimal
//
// Half of the damaged messages get a signature that fits, so that what is behind it is reached.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <random>

#include "json.h"
#include "sha256.h"
#include "wire.h"

using namespace audiosr;
using Frames = std::vector<std::string>;

namespace {

constexpr Key kKey = {1, 2, 3};
std::mt19937_64 dice;

size_t below(size_t n) { return n ? dice() % n : 0; }

void sign(Frames& frames) {
    Hmac hmac(kKey.data(), kKey.size());
    for (size_t i = 0; i < frames.size(); ++i) {
        if (i != 1) {
            uint8_t size[8];
            for (int k = 0; k < 8; ++k) {
                size[k] = static_cast<uint8_t>(frames[i].size() >> 8 * k);
            }
            hmac.add(size, sizeof size);
            hmac.add(frames[i].data(), frames[i].size());
        }
    }
    frames[1].resize(32);
    hmac.finish(reinterpret_cast<uint8_t*>(frames[1].data()));
}

void damage(std::string& text) {
    constexpr std::string_view kPieces[] = {
        "{", "}", "[", "]", "\"", "\\", ",", ":", "\\u", "\\ud800", "\\udc00", "1e999", "-", "0",
        "9007199254740993", "null", "true", "\xff", "\xf4\x90", "1.5", "[[[[[[[[[[[[[[[[[",
    };
    const size_t at = below(text.size() + 1);
    switch (below(5)) {
        case 0: text.insert(at, kPieces[below(std::size(kPieces))]); break;
        case 1: text.erase(at, below(8)); break;
        case 2: text.resize(at); break;
        case 3: text.insert(at, text.substr(below(text.size() + 1), below(40))); break;
        default:
            if (at < text.size()) {
                text[at] = static_cast<char>(dice());
            }
    }
}

void damage(Frames& frames) {
    switch (below(12)) {
        case 0: frames.erase(frames.begin() + static_cast<long>(below(frames.size()))); break;
        case 1: frames.insert(frames.begin() + static_cast<long>(below(frames.size())), ""); break;
        case 2: std::swap(frames[below(frames.size())], frames[below(frames.size())]); break;
        default: damage(frames[below(frames.size())]);
    }
}

// What is read is what is written, and what is written can be read.
void check_json(const std::string& text) {
    Json once, twice;
    std::string exact(text);  // of no more room than it needs: a byte behind it is found out
    exact.shrink_to_fit();
    if (!parse(exact.data(), exact.size(), once)) {
        return;
    }
    const std::string written = write(once);
    if (!parse(written.data(), written.size(), twice) || write(twice) != written) {
        std::fprintf(stderr, "differs: %s\n", written.c_str());
        std::exit(1);
    }
}

}  // namespace

int main(int argc, char** argv) {
    const long cases = argc > 1 ? std::atol(argv[1]) : 1000;
    dice.seed(argc > 2 ? static_cast<uint64_t>(std::atol(argv[2])) : 1);
    std::vector<Frames> seeds;
    for (std::string line; std::getline(std::cin, line);) {
        Json list;
        if (!parse(line.data(), line.size(), list)) {
            return 1;
        }
        seeds.emplace_back();
        for (const Json& one : list.items) {
            std::string frame(one.string.size() / 2, '\0');
            unhex(one.string, reinterpret_cast<uint8_t*>(frame.data()), frame.size());
            seeds.back().push_back(frame);
        }
    }
    long counts[4] = {};
    for (long n = 0; n < cases; ++n) {
        Frames frames = seeds[below(seeds.size())];
        const size_t times = below(4);
        for (size_t i = 0; i < times && frames.size() > 1; ++i) {
            damage(frames);
        }
        const bool is_signed = frames.size() > 1 && below(2);
        if (is_signed) {
            sign(frames);
        }
        for (const std::string& one : frames) {
            check_json(one);
        }
        Message message;
        const Opened opened = open_message(kKey, frames, message);
        if (opened != Opened::strange && !is_signed) {
            std::fprintf(stderr, "taken without a signature\n");
            return 1;
        }
        ++counts[static_cast<int>(opened)];
    }
    std::printf("%ld %ld %ld\n", counts[0], counts[1], counts[2]);
}

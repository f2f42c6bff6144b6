// Streams a sound through the link of the plugin, and tells what happens as lines of JSON.
//
//     link FOLDER WORD=VALUE …
//
//     rate channels settings    of the sound; without `rate` nothing is submitted
//     in out                    float32, planar; `out` gets the high band, one file a job
//     blocks                    sizes of the blocks, over and over: 1,7,4096
//     jobs                      how many at once, each with all of it
//     credit                    of the results, in bytes
//     pause                     ms between an event and the next
//     origin start live         as `Submit` has them
//     timeout                   ms, for the daemon to answer
//     stop                      1: somebody wants it to stop before it begins
//     cancel                    partials after which the first job is cancelled
//     rounds                    so many blocks of `in`, one after the other is back: how long each
//                               took, in µs
//
// 0: every job came to its end; 3: lost; 4: no daemon; 5: a job failed; 6: it hung.
#include "link.h"

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <sstream>

#include "wire.h"
#include "zmtp.h"

using namespace audiosr;

namespace {

constexpr int64_t kHangMs = 60'000;

std::map<std::string, std::string> words;

std::string word(const char* name, const char* otherwise = "") {
    return words.count(name) ? words[name] : otherwise;
}

int64_t number(const char* name, int64_t otherwise) {
    return words.count(name) ? std::atoll(words[name].c_str()) : otherwise;
}

struct Sent {
    std::string name;
    int64_t taken = 0;  // samples a channel
    size_t block = 0;
    bool is_accepted = false, is_over = false;
    std::vector<std::vector<float>> high;
};

std::vector<float> read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(file)), {});
    const auto* first = reinterpret_cast<const float*>(bytes.data());
    return {first, first + bytes.size() / sizeof(float)};
}

void tell(const Event& event) {
    constexpr const char* kNames[] = {"none", "accepted", "decided", "partial",
                                      "progress", "final", "error", "lost"};
    Meta meta;
    meta.text("event", kNames[event.kind]).text("job", event.job);
    switch (event.kind) {
        case Event::accepted: meta.whole("start", event.start); break;
        case Event::decided:
            meta.whole("stride", event.plan.stride)
                .whole("first_end", event.plan.first_end)
                .whole("past", event.plan.past)
                .whole("latency", event.plan.latency)
                .text("model_sha256", event.model_sha256);
            break;
        case Event::partial:
            meta.whole("start", event.start).whole("size", event.num_samples);
            break;
        case Event::error:
        case Event::lost:
            meta.text("code", event.code).text("text", event.text).flag("retryable",
                                                                        event.retryable);
            break;
        default: break;
    }
    std::cout << meta.written() << std::endl;
}

class Streamer {
  public:
    Streamer() : channels_(static_cast<int>(number("channels", 1))), sound_(read(word("in"))) {
        size_ = static_cast<int64_t>(sound_.size()) / channels_;
        std::istringstream list(word("blocks", "4096"));
        for (std::string one; std::getline(list, one, ',');) {
            blocks_.push_back(std::atoll(one.c_str()));
        }
    }

    int run(Link& link) {
        submit(link);
        int64_t heard_at = now_ms(), partials = 0;
        while (now_ms() - heard_at < kHangMs) {
            bool is_busy = false;
            for (Sent& one : jobs_) {
                is_busy |= feed(link, one);
            }
            const Event event = link.next(is_busy ? 0 : 100);
            if (event.kind == Event::none) {
                continue;
            }
            heard_at = now_ms();
            tell(event);
            if (event.kind == Event::lost) {
                return 3;
            }
            if (event.kind == Event::error) {
                return 5;
            }
            partials += event.kind == Event::partial;
            if (partials && partials == number("cancel", 0)) {
                link.cancel(jobs_[0].name);
                jobs_[0].is_over = true;
            }
            if (hear(event)) {
                return 0;
            }
            const int64_t pause = number("pause", 0);
            timespec time = {pause / 1000, pause % 1000 * 1'000'000};
            nanosleep(&time, nullptr);
        }
        return 6;
    }

    int time_rounds(Link& link) {
        submit(link);
        while (link.next(1000).kind != Event::accepted) {
        }
        std::vector<const float*> channels;
        for (int c = 0; c < channels_; ++c) {
            channels.push_back(sound_.data() + c * size_);
        }
        std::string times;
        for (int64_t round = 0; round < number("rounds", 0); ++round) {
            timespec began, ended;
            clock_gettime(CLOCK_MONOTONIC, &began);
            link.send(jobs_[0].name, round * size_, channels.data(), size_);
            for (int64_t wanted = size_; wanted > 0;) {
                const Event event = link.next(1000);
                wanted -= event.num_samples;
                if (event.kind == Event::lost || event.kind == Event::error) {
                    return 5;
                }
            }
            clock_gettime(CLOCK_MONOTONIC, &ended);
            const double us = 1e6 * static_cast<double>(ended.tv_sec - began.tv_sec) +
                              1e-3 * static_cast<double>(ended.tv_nsec - began.tv_nsec);
            times += (times.empty() ? "" : ",") + std::to_string(us);
        }
        std::cout << '[' << times << ']' << std::endl;
        return 0;
    }

  private:
    const int channels_;
    const std::vector<float> sound_;
    int64_t size_;
    std::vector<int64_t> blocks_;
    std::vector<Sent> jobs_;

    void submit(Link& link) {
        for (int64_t i = 0; i < number("jobs", 1); ++i) {
            Submit what;
            what.job = Link::new_name();
            what.sample_rate = static_cast<int>(number("rate", 0));
            what.num_channels = channels_;
            what.settings = word("settings", "{}");
            what.origin = number("origin", 0);
            what.start = number("start", 0);
            what.live = number("live", 0);
            what.credit_bytes = number("credit", what.credit_bytes);
            jobs_.emplace_back();
            jobs_.back().name = what.job;
            jobs_.back().high.resize(static_cast<size_t>(channels_));
            if (what.sample_rate) {
                link.submit(what);
            }
            if (size_ == 0) {
                link.end(what.job);
            }
        }
    }

    // The next block, or what was left of it; whether there may be room for more.
    bool feed(Link& link, Sent& one) {
        if (!one.is_accepted || one.taken == size_) {
            return false;
        }
        const int64_t size = std::min(blocks_[one.block % blocks_.size()], size_ - one.taken);
        std::vector<const float*> channels;
        for (int c = 0; c < channels_; ++c) {
            channels.push_back(sound_.data() + c * size_ + one.taken);
        }
        const int64_t origin = number("origin", 0);
        const int64_t taken = link.send(one.name, origin + one.taken, channels.data(), size);
        one.taken += taken;
        one.block += taken == size;
        if (one.taken == size_) {
            link.end(one.name);
        }
        return taken > 0;
    }

    bool hear(const Event& event) {
        bool all_over = true;
        for (Sent& one : jobs_) {
            if (one.name == event.job && event.kind == Event::accepted) {
                one.is_accepted = true;
            }
            if (one.name == event.job && event.kind == Event::partial) {
                for (int c = 0; c < channels_; ++c) {
                    const float* from = event.high.data() + c * event.num_samples;
                    auto& to = one.high[static_cast<size_t>(c)];
                    to.insert(to.end(), from, from + event.num_samples);
                }
            }
            if (one.name == event.job && event.kind == Event::final) {
                one.is_over = true;
                keep(one);
            }
            all_over &= one.is_over;
        }
        return all_over;
    }

    void keep(const Sent& one) {
        std::ofstream file(word("out") + "." + std::to_string(&one - jobs_.data()),
                           std::ios::binary);
        for (const auto& channel : one.high) {
            file.write(reinterpret_cast<const char*>(channel.data()),
                       static_cast<std::streamsize>(channel.size() * sizeof(float)));
        }
    }
};

}  // namespace

int main(int argc, char** argv) {
    for (int i = 2; i < argc; ++i) {
        const std::string one = argv[i];
        words[one.substr(0, one.find('='))] = one.substr(one.find('=') + 1);
    }
    Link link;
    std::string code, text;
    const std::atomic<bool> stop{number("stop", 0) != 0};
    if (!link.open(argv[1], static_cast<int>(number("timeout", 10'000)), stop, code, text)) {
        std::cout << Meta().text("code", code).text("text", text).written() << std::endl;
        return 4;
    }
    std::cout << Meta().text("event", "open").text("version", link.daemon_version()).written()
              << std::endl;
    Streamer streamer;
    return words.count("rounds") ? streamer.time_rounds(link) : streamer.run(link);
}

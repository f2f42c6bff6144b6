// A small host of our own for VST3, CLAP and LV2, for what no other host tells or does.
//
//     minihost LIBRARY vst3|clap|lv2 COMMAND [name=value ...]
//
//     render    in= to out=, float32, planar; prints what it saw as JSON
//     misuse    does what a host should not do; the plugin survives, refuses, stays silent
//     texts     every parameter's text, there and back
//     cycle     instantiates and destroys `times=` times; prints open files and threads
//     load      the state in state_in=; exits 3 if it is refused, and then nothing changed
//
//     profile=bridge|live  channels=1|2  rate=  blocks=512,1,…  offline=0|1  pace=0|1
//     set=ID:PLAIN          before the first block; any number of times
//     at=SAMPLE:ID:PLAIN    at this sample of the input
//     song=SAMPLE:FRAME     from this sample on the song plays from this frame
//     song=SAMPLE           from this sample on it stands
//     host=NAME             as this one: "Ardour" is told apart
//     state_in=  state_out=  in=  out=  times=
//     unload=0              leaves the library loaded: unloading loses the 72 kB that the C++
//                           library inside it keeps for exceptions, and valgrind tells
#include <dirent.h>
#include <time.h>

#include <map>

#include "clap_host.h"
#include "lv2_host.h"
#include "vst3_host.h"

namespace {

using Options = std::multimap<std::string, std::string>;

std::string option(const Options& options, const char* name, const char* otherwise) {
    const auto found = options.find(name);
    return found == options.end() ? otherwise : found->second;
}

std::vector<double> numbers(const std::string& text, char separator) {
    std::vector<double> values;
    for (size_t at = 0; at <= text.size();) {
        size_t end = text.find(separator, at);
        if (end == std::string::npos) end = text.size();
        values.push_back(std::atof(text.substr(at, end - at).c_str()));
        at = end + 1;
    }
    return values;
}

std::string read_file(const std::string& path) {
    std::string bytes;
    std::FILE* file = std::fopen(path.c_str(), "rb");
    NEED(file);
    char piece[1 << 16];
    for (size_t size; (size = std::fread(piece, 1, sizeof piece, file)) > 0;)
        bytes.append(piece, size);
    std::fclose(file);
    return bytes;
}

void write_file(const std::string& path, const void* bytes, size_t size) {
    std::FILE* file = std::fopen(path.c_str(), "wb");
    NEED(file && std::fwrite(bytes, 1, size, file) == size && std::fclose(file) == 0);
}

int entries(const char* folder) {
    int count = 0;
    DIR* open = opendir(folder);
    NEED(open);
    while (readdir(open)) ++count;
    closedir(open);
    return count - 3;  // ".", ".." and, of open files, the folder itself
}

double seconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + now.tv_nsec * 1e-9;
}

void sleep_until(double when) {
    timespec then = {static_cast<time_t>(when), 0};
    then.tv_nsec = static_cast<long>((when - static_cast<double>(then.tv_sec)) * 1e9);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &then, nullptr);
}

std::unique_ptr<Host> make_host(void* library, const std::string& format, const Setup& setup) {
    if (format == "vst3") return std::make_unique<Vst3Host>(library, setup);
    if (format == "clap") return std::make_unique<ClapHost>(library, setup);
    NEED(format == "lv2");
    return std::make_unique<Lv2Host>(library, setup);
}

// Where the song is at a sample, by the last that was said of it.
Song song_at(const std::vector<std::vector<double>>& script, int64_t sample) {
    Song song;
    for (const auto& line : script) {
        if (line[0] > static_cast<double>(sample)) continue;
        song = {};
        if (line.size() > 1) song = {true, static_cast<int64_t>(line[1] - line[0]) + sample};
    }
    return song;
}

void print_outputs(Host& host, double longest) {
    std::printf("{\"latency\": %u, \"tail\": %lld, \"longest_seconds\": %.9f, \"state\": ",
                host.latency(), static_cast<long long>(host.tail()), longest);
    const std::string sentence = host.text(audiosr::kState, host.get(audiosr::kState));
    std::printf("\"%s\"", sentence.c_str());
    for (uint32_t id = 0; id < audiosr::kNumParameters; ++id)
        std::printf(", \"%s%s\": %.10g", id == audiosr::kState ? "status_" : "",
                    audiosr::parameter(id).symbol, host.get(id));
    std::printf("}\n");
}

void render(Host& host, const Setup& setup, const Options& options) {
    const std::string sound = read_file(option(options, "in", ""));
    const int64_t size = static_cast<int64_t>(sound.size() / sizeof(float)) / setup.num_channels;
    std::vector<float> in(size * setup.num_channels), out(in.size());
    std::memcpy(in.data(), sound.data(), in.size() * sizeof(float));
    std::vector<std::vector<double>> changes, song;
    for (const auto& [name, text] : options) {
        if (name == "at") changes.push_back(numbers(text, ':'));
        if (name == "song") song.push_back(numbers(text, ':'));
    }
    const std::vector<double> blocks = numbers(option(options, "blocks", "512"), ',');
    const bool paced = option(options, "pace", "0") == "1";

    host.start();
    double longest = 0;
    const double began = seconds();
    int64_t at = 0;
    for (size_t turn = 0; at < size; ++turn) {
        Block block;
        block.size = std::min<int64_t>(static_cast<int64_t>(blocks[turn % blocks.size()]),
                                       size - at);
        for (int c = 0; c < setup.num_channels; ++c) {
            block.in.push_back(&in[c * size + at]);
            block.out.push_back(&out[c * size + at]);
        }
        for (const auto& change : changes)
            if (change[0] >= at && change[0] < at + block.size)
                block.changes.push_back({static_cast<int64_t>(change[0]) - at,
                                         static_cast<uint32_t>(change[1]), change[2]});
        block.song = song_at(song, at);
        if (paced) sleep_until(began + static_cast<double>(at) / setup.rate);
        const double before = seconds();
        host.process(block);
        longest = std::max(longest, seconds() - before);
        at += block.size;
    }
    print_outputs(host, longest);
    host.stop();
    write_file(option(options, "out", ""), out.data(), out.size() * sizeof(float));
}

void check_texts(Host& host) {
    for (uint32_t id = 0; id < audiosr::kNumParameters; ++id) {
        const audiosr::Parameter& p = audiosr::parameter(id);
        for (int step = 0; step <= 20; ++step) {
            const double plain = audiosr::plain_of(id, step / 20.0);
            const std::string text = host.text(id, plain);
            double back = -1;
            if (id == audiosr::kState && !host.value(id, text, back)) continue;  // a sentence
            NEED(host.value(id, text, back));
            const double shown = p.maximum >= 1000 ? 1 : p.maximum > 1 ? 0.1 : 0.001;
            NEED(std::fabs(back - plain) <= shown * 0.51);
            if (p.kind != audiosr::Kind::number) NEED(back == plain);
        }
        double back = -1;
        NEED(!host.value(id, "no such thing", back) && !host.value(id, "", back));
    }
}

int load_only(Host& host, const Options& options) {
    host.set(audiosr::kSeed, 42);
    host.set(audiosr::kCutoff, 6000);
    if (option(options, "started", "0") == "1") host.start();
    host.flush();
    const std::string before = host.save();
    const bool taken = host.load(read_file(option(options, "state_in", "")));
    const std::string after = host.save();
    NEED(taken || after == before);
    const std::string path = option(options, "state_out", "");
    if (!path.empty()) write_file(path, after.data(), after.size());
    return taken ? 0 : 3;
}

int run(void* library, const std::string& format, const std::string& command, const Setup& setup,
        const Options& options) {
    if (command == "cycle") {
        const int times = std::atoi(option(options, "times", "100").c_str());
        const int files = entries("/proc/self/fd");
        for (int i = 0; i < times; ++i) make_host(library, format, setup);
        const auto host = make_host(library, format, setup);
        std::printf("{\"files\": %d, \"threads\": %d}\n", entries("/proc/self/fd") - files,
                    entries("/proc/self/task") + 1);
        return 0;
    }
    const auto host = make_host(library, format, setup);
    if (command == "load") return load_only(*host, options);
    const std::string state = option(options, "state_in", "");
    if (!state.empty()) NEED(host->load(read_file(state)));
    for (const auto& [name, text] : options)
        if (name == "set") {
            const auto pair = numbers(text, ':');
            host->set(static_cast<uint32_t>(pair[0]), pair[1]);
        }
    if (command == "render")
        render(*host, setup, options);
    else if (command == "misuse")
        host->misuse();
    else if (command == "texts")
        check_texts(*host);
    else
        return 2;
    const std::string path = option(options, "state_out", "");
    if (!path.empty()) {
        const std::string text = host->save();
        write_file(path, text.data(), text.size());
    }
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 4) return 2;
    Options options;
    for (int i = 4; i < count; ++i) {
        const std::string text = arguments[i];
        const size_t equals = text.find('=');
        NEED(equals != std::string::npos);
        options.emplace(text.substr(0, equals), text.substr(equals + 1));
    }
    Setup setup;
    setup.profile = option(options, "profile", "bridge");
    setup.host = option(options, "host", "");
    setup.num_channels = std::atoi(option(options, "channels", "2").c_str());
    setup.rate = std::atof(option(options, "rate", "48000").c_str());
    setup.offline = option(options, "offline", "0") == "1";
    for (double size : numbers(option(options, "blocks", "512"), ','))
        setup.max_block = std::max(setup.max_block, static_cast<int64_t>(size));
    void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    const int result = run(library, arguments[2], arguments[3], setup, options);
    if (option(options, "unload", "1") == "1") NEED(dlclose(library) == 0);
    return result;
}

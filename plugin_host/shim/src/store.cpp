#include "store.h"

#include <dirent.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <algorithm>
#include <utility>

#include "file.h"
#include "json.h"
#include "places.h"
#include "sha256.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files hold little-endian numbers");

namespace audiosr {
namespace {

constexpr char kForm[] = "audiosr plugin chunk 1";  // another one when its samples would differ
constexpr char kMagic[4] = {'A', 'S', 'C', '1'};
constexpr char kNew[] = ".new-";
constexpr time_t kNewSeconds = 600;  // an unfinished file this old was left by a kill
constexpr uint64_t kSlack = 16;      // after this fraction of the bound was written, it is counted
constexpr uint64_t kMaxPlanBytes = 1 << 20;  // of all plans together
constexpr size_t kMaxPlanFile = 1 << 12;

struct Head {
    char magic[4];
    uint32_t channels;
    uint64_t samples;
};
static_assert(sizeof(Head) == 16, "as bridge/cache.py has it");

struct Digest {
    uint8_t bytes[Sha256::kBytes];
};

struct Bytes {
    const void* data;
    size_t size;
};

Digest digest_of(std::initializer_list<Bytes> parts) {
    Sha256 sha;
    Digest digest;
    for (const Bytes& part : parts) sha.add(part.data, part.size);
    sha.finish(digest.bytes);
    return digest;
}

// A text of any content, such that two lists of texts never look alike.
void add_text(Sha256& sha, const std::string& text) {
    const uint64_t size = text.size();
    sha.add(&size, sizeof size);
    sha.add(text.data(), text.size());
}

std::string name_of(Sha256& sha) {
    Digest digest;
    sha.finish(digest.bytes);
    return hex(digest.bytes, sizeof digest.bytes);
}

bool is_name(const char* name, size_t digits) {
    return ::strlen(name) == digits && ::strspn(name, "0123456789abcdef") == digits;
}

bool is_new(const char* name) {
    constexpr size_t prefix = sizeof kNew - 1;
    return ::strncmp(name, kNew, prefix) == 0 && is_name(name + prefix, 16);
}

Descriptor open_file(int folder, const std::string& name) {
    return Descriptor(
        ::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
}

// A file there whole or not at all; false with errno.
bool write_file(int folder, const std::string& name, std::initializer_list<Bytes> parts) {
    uint8_t random[8];
    if (::getrandom(random, sizeof random, 0) != sizeof random) return false;
    const std::string unfinished = kNew + hex(random, sizeof random);
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    const Descriptor file(::openat(folder, unfinished.c_str(), flags, 0600));
    if (!file) return false;
    bool done = true;
    for (const Bytes& part : parts) done = done && write_whole(file.get(), part.data, part.size);
    done = done && ::renameat(folder, unfinished.c_str(), folder, name.c_str()) == 0;
    const int reason = errno;
    if (!done) ::unlinkat(folder, unfinished.c_str(), 0);
    errno = reason;
    return done;
}

// The samples of a chunk's file; false if it is damaged.
bool read_chunk(int file, int num_channels, int64_t num_samples, std::vector<float>& planar) {
    const size_t count = static_cast<size_t>(num_channels) * static_cast<size_t>(num_samples);
    const size_t size = count * sizeof(float);
    struct stat info;
    Head head;
    Digest digest;
    if (::fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) return false;
    if (static_cast<uint64_t>(info.st_size) != sizeof head + size + sizeof digest) return false;
    if (!read_whole(file, &head, sizeof head)) return false;
    if (::memcmp(head.magic, kMagic, sizeof kMagic) != 0) return false;
    if (head.channels != static_cast<uint32_t>(num_channels)) return false;
    if (head.samples != static_cast<uint64_t>(num_samples)) return false;
    planar.resize(count);
    if (!read_whole(file, planar.data(), size)) return false;
    if (!read_whole(file, &digest, sizeof digest)) return false;
    const Digest wanted = digest_of({{&head, sizeof head}, {planar.data(), size}});
    return ::memcmp(&digest, &wanted, sizeof digest) == 0;
}

void touch(int file) {
    const struct timespec now[2] = {{0, UTIME_NOW}, {0, UTIME_NOW}};
    ::futimens(file, now);
}

struct Entry {
    struct timespec used;
    uint64_t size;
    std::string name;
    bool operator<(const Entry& other) const {
        return std::make_pair(used.tv_sec, used.tv_nsec) <
               std::make_pair(other.used.tv_sec, other.used.tv_nsec);
    }
};

// The files of ours in a folder.
std::vector<Entry> entries(int folder) {
    std::vector<Entry> found;
    Descriptor again(::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    DIR* const list = again ? ::fdopendir(again.get()) : nullptr;
    if (!list) return found;
    again.release();  // the list's
    while (const struct dirent* one = ::readdir(list)) {
        struct stat info;
        if (!is_name(one->d_name, 2 * Sha256::kBytes) && !is_new(one->d_name)) continue;
        if (::fstatat(folder, one->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0) continue;
        if (S_ISDIR(info.st_mode)) continue;
        found.push_back({info.st_mtim, static_cast<uint64_t>(info.st_size), one->d_name});
    }
    ::closedir(list);
    return found;
}

// What was left unfinished goes; where it is too much, so do the least recently used, to nine
// tenths of the bound.
void trim_folder(int folder, uint64_t max_bytes) {
    std::vector<Entry> files = entries(folder);
    std::sort(files.begin(), files.end());
    uint64_t total = 0;
    for (const Entry& one : files) total += one.size;
    const bool too_much = total > max_bytes;
    const time_t old = ::time(nullptr) - kNewSeconds;
    for (const Entry& one : files) {
        const bool goes = is_new(one.name.c_str()) ? one.used.tv_sec < old
                                                   : too_much && total > max_bytes - max_bytes / 10;
        if (goes && (::unlinkat(folder, one.name.c_str(), 0) == 0 || errno == ENOENT))
            total -= one.size;
    }
}

std::string plan_name(const std::string& settings, int sample_rate, int num_channels) {
    Sha256 sha;
    const int64_t numbers[] = {sample_rate, num_channels};
    add_text(sha, "audiosr plugin plan 1");
    add_text(sha, settings);
    sha.add(numbers, sizeof numbers);
    return name_of(sha);
}

Descriptor open_plans(const std::string& folder, bool make) {
    if (!open_private_folder(folder, make)) return Descriptor();
    return open_private_folder(folder + "/plans", make);
}

// A plan's file is JSON, a line's end, and the digits of the JSON's SHA-256.
std::string plan_text(const Plan& plan, const std::string& model_sha256) {
    Json fields(Json::object);
    const auto keep = [&](const char* name, int64_t value) {
        fields.fields[name] = Json::of_number(static_cast<double>(value));
    };
    keep("stride", plan.stride);
    keep("past", plan.past);
    keep("first_end", plan.first_end);
    keep("latency", plan.latency);
    fields.fields["model_sha256"] = Json::of_text(model_sha256);
    const std::string json = write(fields);
    const Digest digest = digest_of({{json.data(), json.size()}});
    return json + "\n" + hex(digest.bytes, sizeof digest.bytes);
}

bool parse_plan(const std::string& text, Plan& plan, std::string& model_sha256) {
    const size_t end = text.find('\n');
    if (end == std::string::npos) return false;
    const Digest digest = digest_of({{text.data(), end}});
    if (text.substr(end + 1) != hex(digest.bytes, sizeof digest.bytes)) return false;
    Json json;
    if (!parse(text.data(), end, json) || json.kind != Json::object) return false;
    const Plan read = {json.whole_or("stride", 0), json.whole_or("past", -1),
                       json.whole_or("first_end", 0), json.whole_or("latency", -1)};
    if (read.stride <= 0 || read.past < 0 || read.first_end <= 0 || read.latency < 0) return false;
    plan = read;
    model_sha256 = json.text_or("model_sha256", "");
    return true;
}

}  // namespace

Store::Store(std::string folder, uint64_t max_bytes)
    : folder_(std::move(folder)), max_bytes_(max_bytes), since_trim_(max_bytes) {
    keeps_ = max_bytes_ > 0;
}

std::string Store::key(const std::string& settings, const std::string& model_sha256,
                       int sample_rate, int num_channels, const Plan& plan, int64_t index,
                       const float* const* input) {
    Sha256 sha;
    const int64_t numbers[] = {sample_rate, num_channels,   plan.stride,
                               plan.past,   plan.first_end, index};
    add_text(sha, kForm);
    add_text(sha, settings);
    add_text(sha, model_sha256);
    sha.add(numbers, sizeof numbers);
    const size_t size = static_cast<size_t>(plan.past + plan.first_end) * sizeof(float);
    for (int channel = 0; channel < num_channels; ++channel) sha.add(input[channel], size);
    return name_of(sha);
}

bool Store::find(const std::string& key, int num_channels, int64_t num_samples,
                 std::vector<float>& planar) {
    const Descriptor folder = open_private_folder(folder_, false);
    const Descriptor file = folder ? open_file(folder.get(), key) : Descriptor();
    if (!file) return false;
    if (read_chunk(file.get(), num_channels, num_samples, planar)) {
        touch(file.get());
        return true;
    }
    planar.clear();
    ::unlinkat(folder.get(), key.c_str(), 0);
    return false;
}

void Store::keep(const std::string& key, int num_channels, int64_t num_samples,
                 const float* planar) {
    Head head = {{}, static_cast<uint32_t>(num_channels), static_cast<uint64_t>(num_samples)};
    ::memcpy(head.magic, kMagic, sizeof kMagic);
    const size_t size = head.channels * head.samples * sizeof(float);
    const uint64_t whole = sizeof head + size + sizeof(Digest);
    if (!keeps_ || whole > max_bytes_) return;
    const Digest digest = digest_of({{&head, sizeof head}, {planar, size}});
    const Descriptor folder = open_private_folder(folder_, true);
    if (!folder || !write_file(folder.get(), key,
                               {{&head, sizeof head}, {planar, size}, {&digest, sizeof digest}})) {
        stop_keeping(::strerror(errno));
        return;
    }
    since_trim_ += whole;
    if (since_trim_ > max_bytes_ / kSlack) trim();
}

bool Store::find_plan(const std::string& settings, int sample_rate, int num_channels, Plan& plan,
                      std::string& model_sha256) {
    const std::string name = plan_name(settings, sample_rate, num_channels);
    const Descriptor folder = open_plans(folder_, false);
    const Descriptor file = folder ? open_file(folder.get(), name) : Descriptor();
    struct stat info;
    if (!file || ::fstat(file.get(), &info) != 0) return false;
    const bool fits = S_ISREG(info.st_mode) && info.st_size <= off_t{kMaxPlanFile};
    std::string text(fits ? static_cast<size_t>(info.st_size) : 0, '\0');
    if (read_whole(file.get(), &text[0], text.size()) && parse_plan(text, plan, model_sha256)) {
        touch(file.get());
        return true;
    }
    ::unlinkat(folder.get(), name.c_str(), 0);
    return false;
}

void Store::keep_plan(const std::string& settings, int sample_rate, int num_channels,
                      const Plan& plan, const std::string& model_sha256) {
    if (!keeps_) return;
    const std::string text = plan_text(plan, model_sha256);
    const Descriptor folder = open_plans(folder_, true);
    if (!folder || !write_file(folder.get(), plan_name(settings, sample_rate, num_channels),
                               {{text.data(), text.size()}}))
        stop_keeping(::strerror(errno));
}

void Store::trim() {
    since_trim_ = 0;
    const Descriptor folder = open_private_folder(folder_, false);
    if (!folder) return;
    trim_folder(folder.get(), max_bytes_);
    const Descriptor plans = open_plans(folder_, false);
    if (plans) trim_folder(plans.get(), kMaxPlanBytes);
}

// A full disk or a folder that cannot be written: the plugin goes on without.
void Store::stop_keeping(const std::string& why) {
    keeps_ = false;
    log_line("renders are no longer kept in " + folder_ + ": " + why);
}

}  // namespace audiosr

#include "history.h"

#include <algorithm>

namespace audiosr {
namespace {

constexpr int64_t kWorthMoving = 1 << 16;  // samples to forget before the rest is moved down

}  // namespace

void History::begin_segment(const Block& block) {
    if (block.time > end_) {
        Segment lost;
        lost.id = 0;
        lost.time = lost.kept_from = end_;
        lost.lost = true;
        segments_.push_back(lost);
    }
    Segment segment;
    segment.id = block.segment;
    segment.time = segment.kept_from = block.time;
    segment.place = block.place;
    segment.fresh = block.fresh;
    segments_.push_back(segment);
    if (block.fresh) {
        fresh_from_ = block.time;
        first_sound_ = kNever;
    }
}

bool History::append(Feed& feed) {
    std::vector<float> came[kMaxChannels];
    Block block;
    if (!feed.take(block, came)) return false;
    const bool goes_on = !segments_.empty() && segments_.back().id == block.segment &&
                         !segments_.back().lost && block.time == end_;
    if (!goes_on) begin_segment(block);
    if (turns_.empty() || !(turns_.back().render == block.render))
        turns_.push_back({block.time, block.render});

    Segment& segment = segments_.back();
    for (int c = 0; c < num_channels_; ++c) {
        const auto sound = std::find_if(came[c].begin(), came[c].end(),
                                        [](float x) { return !(x == 0); });
        if (sound != came[c].end() && segment.first_sound > block.time)
            segment.first_sound = std::min(segment.first_sound,
                                           block.time + (sound - came[c].begin()));
        segment.samples[c].insert(segment.samples[c].end(), came[c].begin(), came[c].end());
    }
    first_sound_ = std::min(first_sound_, segment.first_sound);
    last_ = block;
    end_ = block.time + block.size;
    return true;
}

const Segment& History::segment_at(int64_t time) const {
    auto found = segments_.rbegin();
    while (found + 1 != segments_.rend() && found->time > time) ++found;
    return *found;
}

const Segment* History::segment(uint32_t id) const {
    for (const Segment& one : segments_)
        if (one.id == id && !one.lost) return &one;
    return nullptr;
}

int64_t History::end_of(const Segment& segment) const {
    for (size_t i = 0; i + 1 < segments_.size(); ++i)
        if (&segments_[i] == &segment) return segments_[i + 1].time;
    return kNever;
}

const Render& History::render_at(int64_t time) const {
    auto found = turns_.rbegin();
    while (found + 1 != turns_.rend() && found->time > time) ++found;
    return found->render;
}

void History::copy(const Segment& segment, int64_t from, int64_t to,
                   std::vector<float>& planar) const {
    const int64_t size = to - from;
    planar.assign(static_cast<size_t>(size * num_channels_), 0.0f);
    for (int c = 0; c < num_channels_; ++c) {
        const std::vector<float>& kept = segment.samples[c];
        const int64_t first = segment.place_of(segment.kept_from);
        const int64_t begin = std::max(from, first);
        const int64_t end = std::min(to, first + static_cast<int64_t>(kept.size()));
        if (begin < end)
            std::copy(kept.begin() + (begin - first), kept.begin() + (end - first),
                      planar.begin() + c * size + (begin - from));
    }
}

void History::forget_before(int64_t time) {
    while (segments_.size() > 1 && segments_[1].time <= time) segments_.pop_front();
    while (turns_.size() > 1 && turns_[1].time <= time) turns_.pop_front();
    if (segments_.empty() || segments_.front().lost) return;
    Segment& first = segments_.front();
    const int64_t size = static_cast<int64_t>(first.samples[0].size());
    const int64_t old = std::min(time - first.kept_from, size);
    if (old < kWorthMoving || old < size / 2) return;
    for (int c = 0; c < num_channels_; ++c)
        first.samples[c].erase(first.samples[c].begin(), first.samples[c].begin() + old);
    first.kept_from += old;
}

}  // namespace audiosr

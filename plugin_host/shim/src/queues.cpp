#include "queues.h"

#include <algorithm>

namespace audiosr {
namespace {

constexpr size_t kMaxChanges = 4096;  // of knobs and places, waiting
constexpr size_t kMaxPieces = 8192;

}  // namespace

template <typename T>
void Ring<T>::copy_in(size_t ahead, const T* from, size_t count) {
    const size_t first = mask(written_.load(std::memory_order_relaxed) + ahead);
    const size_t before_end = std::min(count, values_.size() - first);
    std::copy_n(from, before_end, values_.data() + first);
    std::copy_n(from + before_end, count - before_end, values_.data());
}

template <typename T>
void Ring<T>::copy_out(size_t ahead, T* to, size_t count) const {
    const size_t first = mask(taken_.load(std::memory_order_relaxed) + ahead);
    const size_t before_end = std::min(count, values_.size() - first);
    std::copy_n(values_.data() + first, before_end, to);
    std::copy_n(values_.data(), count - before_end, to + before_end);
}

template class Ring<float>;

void Feed::prepare(int num_channels, int64_t capacity) {
    num_channels_ = num_channels;
    for (int c = 0; c < num_channels; ++c) samples_[c].prepare(static_cast<size_t>(capacity));
    changes_.prepare(kMaxChanges);
    pushed_ = taken_ = Block();
    any_pushed_ = false;
}

bool Feed::has_room(int64_t size) const {
    return samples_[num_channels_ - 1].room() >= static_cast<size_t>(size) && changes_.room() > 0;
}

// The change is published before its samples: who sees these sees what they are.
bool Feed::push(const Block& block, const float* const* samples) {
    if (!has_room(block.size)) return false;
    const size_t size = static_cast<size_t>(block.size);
    if (!any_pushed_ || !block.continues(pushed_)) {
        changes_.slot(0) = {samples_[0].written(), block};
        changes_.publish(1);
    }
    for (int c = 0; c < num_channels_; ++c) {
        samples_[c].copy_in(0, samples[c], size);
        samples_[c].publish(size);
    }
    pushed_ = block;
    any_pushed_ = true;
    return true;
}

// The last channel is published last, and taken last: what it has, all have.
bool Feed::take(Block& block, std::vector<float>* samples) {
    uint64_t size = samples_[num_channels_ - 1].filled();
    if (size == 0) return false;
    const uint64_t position = samples_[0].taken();
    taken_.time += taken_.size;
    taken_.place += taken_.size;
    if (changes_.filled() > 0 && changes_.peek(0).position == position) {
        taken_ = changes_.peek(0).block;
        changes_.take(1);
    }
    if (changes_.filled() > 0) size = std::min(size, changes_.peek(0).position - position);
    taken_.size = static_cast<int64_t>(size);
    for (int c = 0; c < num_channels_; ++c) {
        const size_t before = samples[c].size();
        samples[c].resize(before + size);
        samples_[c].copy_out(0, samples[c].data() + before, size);
        samples_[c].take(size);
    }
    block = taken_;
    return true;
}

void Wet::prepare(int num_channels, int64_t capacity) {
    num_channels_ = num_channels;
    for (int c = 0; c < num_channels; ++c) samples_[c].prepare(static_cast<size_t>(capacity));
    pieces_.prepare(kMaxPieces);
    resolved_until_.store(0, std::memory_order_relaxed);
}

bool Wet::push(const Piece& piece, const float* const* samples) {
    const size_t size = piece.has_samples ? static_cast<size_t>(piece.size) : 0;
    if (pieces_.room() == 0 || samples_[num_channels_ - 1].room() < size) return false;
    for (int c = 0; c < num_channels_; ++c) {
        if (size > 0) samples_[c].copy_in(0, samples[c], size);
        samples_[c].publish(size);
    }
    pieces_.slot(0) = piece;
    pieces_.publish(1);
    resolved_until_.store(piece.end(), std::memory_order_release);
    return true;
}

void Wet::pop() {
    const Piece& first = pieces_.peek(0);
    for (int c = 0; c < num_channels_; ++c)
        samples_[c].take(first.has_samples ? static_cast<size_t>(first.size) : 0);
    pieces_.take(1);
}

void Wet::read(int channel, int64_t offset, float* to, int64_t size) const {
    samples_[channel].copy_out(static_cast<size_t>(offset), to, static_cast<size_t>(size));
}

}  // namespace audiosr

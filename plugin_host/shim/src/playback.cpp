#include "playback.h"

#include <algorithm>

namespace audiosr {
namespace {

// What is worse stands for the whole chunk.
int badness(Found found) {
    return found == Found::wet ? 0 : found == Found::late ? 1 : 2;
}

}  // namespace

void Playback::prepare(int num_channels, int64_t fade_samples) {
    num_channels_ = num_channels;
    fade_ = fade_samples;
    noted_chunk_ = 0;
    reset(0);
}

void Playback::reset(int64_t from) {
    from_ = missed_from_ = missed_until_ = from;
    heard_ = fade_;
    noted_chunk_ = 0;
    for (auto& one : counts_) one.store(0, std::memory_order_relaxed);
}

void Playback::note(const Piece& piece, Found heard) {
    if (piece.chunk == 0 || piece.end() <= from_) return;
    auto& now = counts_[static_cast<int>(heard)];
    if (piece.chunk != noted_chunk_) {
        noted_chunk_ = piece.chunk;
        noted_as_ = heard;
        now.fetch_add(1, std::memory_order_relaxed);
    } else if (badness(heard) > badness(noted_as_)) {
        counts_[static_cast<int>(noted_as_)].fetch_sub(1, std::memory_order_relaxed);
        noted_as_ = heard;
        now.fetch_add(1, std::memory_order_relaxed);
    }
}

void Playback::discard_before(int64_t time) {
    while (wet_.num_pieces() > 0 && wet_.piece(0).end() <= time) {
        const Piece& piece = wet_.piece(0);
        const bool missed = piece.time < missed_until_ && piece.end() > missed_from_;
        if (missed) note(piece, piece.found == Found::wet ? Found::late : piece.found);
        wet_.pop();
    }
}

// How far the generated band goes on without a hole, as far as anybody needs to know.
int64_t Playback::wet_ahead(int64_t time, int64_t enough) const {
    int64_t until = time;
    for (size_t i = 0; i < wet_.num_pieces() && until - time < enough; ++i) {
        if (wet_.piece(i).found != Found::wet) break;
        until = wet_.piece(i).end();
    }
    return until - time;
}

void Playback::fade(int64_t ahead, int64_t size, float* share) {
    for (int64_t i = 0; i < size; ++i) {
        heard_ = std::min(ahead - i, heard_ < fade_ ? heard_ + 1 : fade_);
        heard_ = std::min(heard_, fade_);
        share[i] = static_cast<float>(heard_) / static_cast<float>(fade_);
    }
}

Run Playback::read(int64_t time, int64_t at_most, bool waits, bool counts, float* const* high,
                   float* share) {
    Run run;
    run.size = at_most;
    discard_before(time);
    if (time < from_) {
        run.size = std::min(at_most, from_ - time);
        return run;
    }
    if (wet_.num_pieces() == 0 || wet_.piece(0).time > time) {
        if (wet_.num_pieces() > 0) run.size = std::min(at_most, wet_.piece(0).time - time);
        run.kind = Run::late;
        heard_ = 0;
        if (counts) {
            if (missed_until_ != time) missed_from_ = time;
            missed_until_ = time + run.size;
        }
        return run;
    }
    const Piece& piece = wet_.piece(0);
    run.size = std::min(at_most, piece.end() - time);
    const bool missed = piece.time < missed_until_ && piece.end() > missed_from_;
    if (piece.found != Found::wet) {
        const bool failed = piece.found == Found::failed || waits;
        run.kind = failed ? Run::failed : Run::late;
        note(piece, failed ? Found::failed : Found::late);
        heard_ = 0;
        return run;
    }
    note(piece, missed ? Found::late : Found::wet);
    run.kind = piece.has_samples ? Run::wet : Run::nothing;
    run.has_samples = piece.has_samples;
    if (waits) {
        std::fill_n(share, run.size, 1.0f);
        heard_ = fade_;
    } else {
        fade(wet_ahead(time, run.size + fade_), run.size, share);
    }
    for (int c = 0; run.has_samples && c < num_channels_; ++c)
        wet_.read(c, time - piece.time, high[c], run.size);
    return run;
}

}  // namespace audiosr

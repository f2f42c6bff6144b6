// The resolver of the plugin for listening: one job a segment, fed as the input comes; what comes
// back goes on at once. No grid, no store: what is not there in time is dry, and counted.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "delivery.h"

namespace audiosr {

class Live : public Resolver {
  public:
    explicit Live(const Workplace& at) : at_(at) {}

    void work() override;
    int64_t needs_from() const override;
    void drop() override;

  private:
    bool open(const Segment& segment);
    void send(const Segment& segment, int64_t segment_end);
    int64_t sendable(int64_t end, bool plays_on) const;
    bool take(const Segment& segment, int64_t known_end);
    void close();
    bool push(int64_t until, Found found, const float* planar = nullptr);
    int64_t cursor() const { return at_.delivery.until(); }

    Workplace at_;
    std::shared_ptr<Job> job_;
    uint32_t segment_ = 0;   // of the job
    int64_t opened_at_ = 0;  // the place where it was to begin
    bool is_stale_ = false;  // its results come too late for good
    std::string settings_;
    int tries_ = 0;
    int64_t second_ = -1;   // the second that is being counted
    uint32_t number_ = 0;
};

}  // namespace audiosr

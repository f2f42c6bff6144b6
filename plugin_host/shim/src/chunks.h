// The resolver of the plugin that bounces: chunks on a grid of places, each a function of its own
// input and so the same whoever asks for it, and whenever.
//
//     places    |   k·stride    |  (k+1)·stride  |
//     chunk k   [=== result ====]
//     needs  [ past |  .  .  .  .  first_end  ]      of its segment; silence outside
//
//     cut      input is there  →  silent · from the store · open
//     ask      open            →  asked: sent to a job      one job as long as chunks follow on
//     take     asked           →  done: kept in the store
//     deliver  done, in order  →  Wet
//
// In real time a chunk whose moment has passed is delivered as late, so that those behind it are
// heard, and is rendered on for the store.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "delivery.h"
#include "store.h"

namespace audiosr {

class Chunks : public Resolver {
  public:
    explicit Chunks(const Workplace& at);

    void work() override;
    int64_t needs_from() const override;
    void drop() override;

  private:
    // Where the chunks of some settings lie, as the daemon or the store says.
    struct Known {
        Plan plan;
        std::string model_sha256;
    };

    // One job of the daemon's, as long as chunks go on without a gap.
    struct Work {
        std::shared_ptr<Job> job;
        uint32_t segment = 0;
        std::string settings;
        Plan plan;
        int64_t until = 0;  // place: input is sent up to here
    };

    struct Chunk {
        enum State { open, asked, done } state = open;
        uint32_t segment = 0;
        int64_t index = 0;
        int64_t time = 0, time_end = 0;  // what is delivered of it
        int64_t from = 0;                // the place of `time`
        std::string settings, plan_key, model_sha256, key;
        Plan plan;
        uint32_t preset = 0;
        int tries = 0;
        std::shared_ptr<Job> job;

        Found found = Found::wet;
        bool is_silent = false, is_cached = false, is_delivered = false;
        Trouble trouble;
        std::vector<float> high;  // planar, the delivered part

        int64_t begin() const { return index * plan.stride; }  // places
        int64_t end() const { return begin() + plan.stride; }
        int64_t input_begin() const { return begin() - plan.past; }
        int64_t input_end() const { return begin() + plan.first_end; }
        void fail(const Trouble& why) {
            state = done;
            found = Found::failed;
            trouble = why;
        }
        void fill(const std::vector<float>& whole, int num_channels);
    };

    void take();
    void mend();
    bool correct_plan();
    bool cut();
    bool cut_without_plan(const Segment& segment, int64_t segment_end, const Render& render);
    void cut_chunk(const Segment& segment, int64_t time_end, int64_t index, const Known& known,
                   const Render& render, const std::string& plan_key);
    void ask();
    bool assign(Chunk& chunk);
    void send();
    void close_unused();
    void deliver();
    bool is_too_late(const Chunk& chunk) const;
    bool hand_over(const Chunk& chunk);

    Store& store();
    bool fits(const Plan& plan) const;
    bool find_known(const std::string& key, Known& known);
    bool probe(const std::string& key, int64_t place);
    void fail_planless(int64_t limit, const Trouble& why);
    void tell_done(const Chunk& chunk);
    bool is_used(const Job& job) const;

    Workplace at_;
    std::unique_ptr<Store> store_;  // opened when there was sound
    int64_t cursor_ = 0;  // time up to which chunks are cut
    std::deque<Chunk> chunks_;
    std::vector<Work> works_;  // the last one may go on, the others only end
    std::map<std::string, Known> known_;
    int num_corrections_ = 0;     // of plans, since the daemon held to one
    std::shared_ptr<Job> probe_;  // a job without input, that only tells the plan
    int num_probes_ = 0;          // that were lost with their daemon
    int64_t most_past_;
};

}  // namespace audiosr

// How one thread waits for another without the other paying for it: who rings looks at one atomic,
// and calls the system only if somebody listens.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdint>

#include "clock.h"

namespace audiosr {

class Bell {
  public:
    Bell() { renew(); }
    // Nothing is destroyed: in a forked process that would wait for a waiter who did not come.
    ~Bell() = default;
    Bell(const Bell&) = delete;
    Bell& operator=(const Bell&) = delete;

    // As new, whatever it was in the middle of when the host forked.
    void renew() {
        listeners_ = 0;
        mutex_ = PTHREAD_MUTEX_INITIALIZER;
        pthread_condattr_t attributes;
        ::pthread_condattr_init(&attributes);
        ::pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        ::pthread_cond_init(&rung_, &attributes);
        ::pthread_condattr_destroy(&attributes);
    }

    // After what was waited for has been published. The exchange with `wait` is a read and a write
    // on both sides, so one of the two sees the other.
    void ring() {
        if (listeners_.fetch_add(0, std::memory_order_acq_rel) == 0) return;
        ::pthread_mutex_lock(&mutex_);
        ::pthread_cond_broadcast(&rung_);
        ::pthread_mutex_unlock(&mutex_);
    }

    // Until `there()`, at most so long; whether it is.
    template <typename Condition>
    bool wait(int milliseconds, Condition there) {
        const int64_t until_ns = now_ns() + int64_t{milliseconds} * 1000000;
        const timespec until = {static_cast<time_t>(until_ns / 1000000000),
                                static_cast<long>(until_ns % 1000000000)};
        ::pthread_mutex_lock(&mutex_);
        listeners_.fetch_add(1, std::memory_order_acq_rel);
        bool is_there = there();
        while (!is_there && ::pthread_cond_timedwait(&rung_, &mutex_, &until) == 0)
            is_there = there();
        if (!is_there) is_there = there();
        listeners_.fetch_sub(1, std::memory_order_acq_rel);
        ::pthread_mutex_unlock(&mutex_);
        return is_there;
    }

  private:
    pthread_mutex_t mutex_;
    pthread_cond_t rung_;
    std::atomic<int> listeners_{0};
};

}  // namespace audiosr

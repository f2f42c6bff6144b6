// A clock that only goes forward; read without a system call.
#pragma once

#include <time.h>

#include <cstdint>

namespace audiosr {

inline int64_t now_ns() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<int64_t>(now.tv_sec) * 1000000000 + now.tv_nsec;
}

inline int64_t now_ms() { return now_ns() / 1000000; }

}  // namespace audiosr

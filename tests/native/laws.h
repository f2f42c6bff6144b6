// What programs of laws share.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>

// What must hold; ends the program with a line that says what did not.
#define NEED(condition)                                                           \
    do {                                                                          \
        if (!(condition)) {                                                       \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                         \
        }                                                                         \
    } while (0)

// 24 bits, the same in every run.
inline uint32_t random_number() {
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

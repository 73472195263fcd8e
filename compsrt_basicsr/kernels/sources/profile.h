// Measures the time by part of the work; disabled unless compiled with -DCOMPSRT_PROFILE (benchmark, one thread).
#pragma once

enum Part { TRANSFORM, QUANTIZE, PRODUCT, SOFTMAX, GELU, NORM, PARTS };

#ifdef COMPSRT_PROFILE
#include <chrono>

inline double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
#if defined(__x86_64__)
inline double ticks() { return double(__builtin_ia32_rdtsc()); }  // takes a fraction of the time of the system's clock
#else
inline double ticks() { return now(); }
#endif

static double part_ticks[PARTS], last_time = now(), last_ticks = ticks();
static int part_counts[PARTS];

// The ticks that asking for them takes, which in a virtual machine are many.
inline double ticks_of_asking() {
    constexpr int TIMES = 1000;
    const double start = ticks();
    for (int i = 0; i < TIMES; ++i) ticks();
    return (ticks() - start) / (TIMES + 1);
}

// Returns the seconds spent in each Part since the last call, and after them those of the clocks themselves.
inline void read_profile(double* seconds) {
    const double time = now(), tick = ticks(), unit = (time - last_time) / (tick - last_ticks), own = ticks_of_asking();
    seconds[PARTS] = 0;
    for (int i = 0; i < PARTS; ++i) {
        seconds[i] = (part_ticks[i] - part_counts[i] * own) * unit;  // of the two clocks of a part, one lies within
        seconds[PARTS] += 2 * part_counts[i] * own * unit;
        part_ticks[i] = part_counts[i] = 0;
    }
    last_time = now(), last_ticks = ticks();
}

struct Timed {
    Part part;
    double start = ticks();
    explicit Timed(Part part) : part(part) {}
    ~Timed() { part_ticks[part] += ticks() - start, ++part_counts[part]; }
};
#else
struct Timed {
    explicit Timed(Part) {}
};
#endif

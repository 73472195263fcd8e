// Measures the time by part of the work; disabled unless compiled with -DCOMPSRT_PROFILE (benchmark, one thread).
#pragma once

enum Part { TRANSFORM, QUANTIZE, PRODUCT, SOFTMAX, GELU, NORM, PARTS };

#ifdef COMPSRT_PROFILE
#include <chrono>
static double part_seconds[PARTS];
struct Timed {
    Part part;
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
    explicit Timed(Part part) : part(part) {}
    ~Timed() {
        part_seconds[part] += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
};
#else
struct Timed {
    explicit Timed(Part) {}
};
#endif

// Rows divided by their largest value, at least `least`, forward and backward, each in one pass over memory.
#pragma once

#include "fake_quantize.h"

struct Peaks {
    int64_t n;
    float least;

    // y = x / p with p = max(largest x, least); NaN makes its row NaN.
    void row(const float* x, float* y, float* peak) const {
        const vi last = last_lanes(n);
        Range range;
        each_vector(n, last, [&](int64_t i, int lanes, vi mask) { range.add(load(x + i, lanes), mask); });
        float p = any(range.bad) ? std::numeric_limits<float>::quiet_NaN() : maximum(range.largest);
        p = p < least ? least : p;
        each_vector(n, last, [&](int64_t i, int lanes, vi) { store(y + i, load(x + i, lanes) / splat(p), lanes); });
        *peak = p;
    }

    // dx = dy / p - (sum of dy y) / p, shared by the largest elements: those with y = 1.
    void gradient(const float* y, const float* dy, float p, float* dx) const {
        const vi last = last_lanes(n);
        PairSums sums;
        for (int64_t first = 0; first < n; first += Strict::PIECE) {
            const int64_t size = n - first < Strict::PIECE ? n - first : Strict::PIECE;
            vf product{}, count{};
            each_vector(size, last_lanes(size), [&](int64_t i, int lanes, vi mask) {
                const vf value = load(y + first + i, lanes), g = load(dy + first + i, lanes);
                product += (vf)((vi)(g * value) & mask);
                count += (vf)((vi)splat(1.0f) & (value == splat(1.0f)) & mask);
                store(dx + first + i, g / splat(p), lanes);
            });
            sums.add(product, count);
        }
        sums.flush();
        if (sums.zero == 0) return;
        const vf share = splat(float(sums.scale / p / sums.zero));
        each_vector(n, last, [&](int64_t i, int lanes, vi) {
            const vi top = load(y + i, lanes) == splat(1.0f);
            if (!any(top)) return;
            const vf g = load(dy + i, lanes) / splat(p);
            store(dx + i, top ? g - share : g, lanes);
        });
    }
};

// Rounding with feedback: each column of a weight is rounded to its grid, and the columns behind it make up for the
// error, by the rows of the upper Cholesky factor of the inverse of the second moments. In float64.
#pragma once

#include <cmath>
#include <cstdint>

#include "simd.h"

struct Feedback {
    const double* factor;        // (n, n), upper
    const double *scale, *zero;  // (rows,)
    const uint8_t* keep;         // (rows, n): 0 where a coefficient becomes 0.0; or null
    int64_t n;
    double top;

    // Rounds row r of the weight; `left` holds it and is changed.
    void row(int64_t r, double* left, double* out) const {
        for (int64_t i = 0; i < n; ++i) {
            double code = (left[i] - zero[r]) / scale[r];
            code = code < 0 ? 0 : code > top ? top : code;
            double value = rounded(std::nearbyint(code) * scale[r]) + zero[r];
            if (keep && !keep[r * n + i]) value = 0;
            const double *from = factor + i * n, error = (left[i] - value) / from[i];
            for (int64_t j = i + 1; j < n; ++j) left[j] -= error * from[j];
            out[i] = value;
        }
    }
};

// Quantization of strips of values into lanes of codes.
#pragma once

#include "codes.h"

struct Grid {  // s, Z and 2^b - 1
    float scale, zero, top;
};

struct Side {  // an operand: its grid, and whether that is one for values mapped to [0, 1] by the ends of their vector
    Grid grid;
    float vectors;
};

inline int middle(const Grid& grid) { return (int(grid.top) + 1) / 2; }

// Largest minus smallest value, at least a millionth of their magnitude and 1e-8: `vector_range` in Python.
template <class T>
inline T extent_of(T smallest, T largest, T share, T least) {
    T a = smallest < -smallest ? -smallest : smallest, b = largest < -largest ? -largest : largest;
    T bound = (a < b ? b : a) * share;
    bound = bound < least ? least : bound;
    const T extent = largest - smallest;
    return extent < bound ? bound : extent;
}

// The grids of VL tokens, for values that have to be multiplied by `factor` first.
struct Steps {
    vf scale, zero, inverse, offset, factor, top;
    vf sure;  // how far from an integer a position in codes must not be, if its rounding is to be that of the quotient

    Steps() = default;
    Steps(const Grid& grid, float factor = 1.0f) { set(splat(grid.scale), splat(grid.zero), grid.top, factor); }

    // The grid of a vector, in `side`, has the step s e and the zero point Z e + m, with its smallest value m and its extent e.
    Steps(const Side& side, vf smallest, vf largest, float factor) {
        const vf low = smallest * splat(factor), high = largest * splat(factor);
        const vf extent = extent_of(low, high, splat(1e-6f), splat(1e-8f));
        set(splat(side.grid.scale) * extent, rounded(splat(side.grid.zero) * extent) + low, side.grid.top, factor);
    }

    vf position(vf x) const { return x * inverse + offset; }
    vf quotient(vf x) const { return (rounded(x * factor) - zero) / scale; }

  private:
    void set(vf s, vf z, float largest_code, float by) {
        scale = s, zero = z, factor = splat(by), top = splat(largest_code);
        inverse = factor / scale, offset = -zero / scale;
        const vf most = larger(offset, -offset) + splat(largest_code + 1.0f);
        sure = splat(0.5f) - most * splat(1.0f / (1 << 21));  // position and quotient are at most 5 roundings apart
    }
};

typedef uint8_t vb __attribute__((vector_size(4 * LANES)));

struct Coded {
    vf sum, doubt;  // of the codes of each token, NaN after NaN; the largest distance of a position from its code
};

// Turns N positions into codes; the last bits of `shifted` hold them too.
template <int N>
INLINED inline void round_codes(vf (&x)[N], vf (&shifted)[N], vf top, Coded& coded) {
    for (int i = 0; i < N; ++i) x[i] = smaller(top, larger(vf{}, x[i]));  // NaN stays
    for (int i = 0; i < N; ++i) shifted[i] = x[i] + splat(MAGIC);
    for (int i = 0; i < N; ++i) {
        const vf code = shifted[i] - splat(MAGIC);
        coded.doubt = larger(larger(x[i] - code, code - x[i]), coded.doubt);
        coded.sum += x[i] = code;
    }
}

// Codes k channels of VL tokens and writes code - middle to lanes `ldl` apart. positions(first channel, vf (&x)[N])
// computes where N channels lie in codes. Channels from k to the end of the last lane are 0, less the middle.
template <class Positions>
INLINED inline Coded code_channels(int k, vf top, int middle, int32_t* lanes, size_t ldl, Positions positions) {
    const vb centre = vb{} + uint8_t(middle);
    Coded coded{};
    int i = 0;
    for (; i + 4 <= k; i += 4, lanes += ldl) {
        vf x[4], shifted[4];
        positions(i, x);
        round_codes(x, shifted, top, coded);
        const vi three = __builtin_convertvector(x[0] + x[1] * splat(256.0f) + x[2] * splat(65536.0f), vi);
        *reinterpret_cast<vi_mem*>(lanes) = (vi)((vb)(three | (vi)shifted[3] << 24) - centre);
    }
    if (i == k) return coded;
    vi lane{};
    for (int j = 0; i < k; ++i, ++j) {
        vf x[1], shifted[1];
        positions(i, x);
        round_codes(x, shifted, top, coded);
        lane |= __builtin_convertvector(x[0], vi) << 8 * j;
    }
    *reinterpret_cast<vi_mem*>(lanes) = (vi)((vb)lane - centre);
    return coded;
}

// Codes k channels of VL tokens, STRIP floats apart. With EXACT, codes are those of the quotient (x - Z) / s in every
// case; otherwise they may differ where it is within rounding of the middle between two codes.
template <bool EXACT>
inline vf quantize_channels(const float* x, int k, const Steps& steps, int middle, int32_t* lanes, size_t ldl) {
    Coded coded = code_channels(k, steps.top, middle, lanes, ldl, [&](int first, auto& of) INLINED {
        for (vf& each : of) each = steps.position(load(x + first++ * STRIP));
    });
    if (EXACT && any(~(coded.doubt < steps.sure)))
        coded = code_channels(k, steps.top, middle, lanes, ldl, [&](int first, auto& of) INLINED {
            for (vf& each : of) each = steps.quotient(load(x + first++ * STRIP));
        });
    return coded.sum;
}

struct Ends {  // the smallest and the largest of the k values of each token; skips NaN, which `quantize` finds
    vf smallest, largest;

    Ends(const float* x, int k) : smallest(load(x)), largest(smallest) {
        for (int i = 1; i < k; ++i)
            smallest = smaller(load(x + i * STRIP), smallest), largest = larger(load(x + i * STRIP), largest);
    }
};

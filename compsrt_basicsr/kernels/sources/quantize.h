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

typedef int8_t vb __attribute__((vector_size(4 * LANES)));

struct Coded {
    vf sum, doubt;  // of the codes of each token, NaN after NaN; the largest distance of a position from its code
};

// Codes k channels of VL tokens, whose positions in codes are position(first value), and writes code - middle to lanes
// `ldl` apart; channels beyond k are unspecified, except that they are 0 without a middle.
template <class Position>
INLINED inline Coded code_channels(int k, vf top, int middle, int32_t* lanes, size_t ldl, Position position) {
    const vb centre = vb{} + int8_t(middle);
    Coded coded{};
    const auto code = [&](int i, vf& shifted) INLINED {  // returns the code; the last bits of `shifted` hold it too
        const vf v = smaller(top, larger(vf{}, position(i)));  // NaN stays
        shifted = v + splat(MAGIC);
        const vf q = shifted - splat(MAGIC);
        coded.sum += q;
        coded.doubt = larger(larger(v - q, q - v), coded.doubt);
        return q;
    };
    int i = 0;
    vf shifted;
    for (; i + 4 <= k; i += 4, lanes += ldl) {
        const vf first = code(i, shifted), second = code(i + 1, shifted), third = code(i + 2, shifted);
        const vi three = __builtin_convertvector(first + second * splat(256.0f) + third * splat(65536.0f), vi);
        code(i + 3, shifted);
        const vi four = three | (vi)shifted << 24;
        *reinterpret_cast<vi_mem*>(lanes) = (vi)((vb)four - centre);
    }
    if (i == k) return coded;
    vi four{};
    for (int j = 0; i + j < k; ++j) four |= __builtin_convertvector(code(i + j, shifted), vi) << 8 * j;
    *reinterpret_cast<vi_mem*>(lanes) = (vi)((vb)four - centre);
    return coded;
}

// Codes k channels of VL tokens, STRIP floats apart. With EXACT, codes are those of the quotient (x - Z) / s in every
// case; otherwise they may differ where it is within rounding of the middle between two codes.
template <bool EXACT>
inline vf quantize_channels(const float* x, int k, const Steps& steps, int middle, int32_t* lanes, size_t ldl) {
    Coded coded = code_channels(k, steps.top, middle, lanes, ldl,
                                [&](int i) INLINED { return steps.position(load(x + i * STRIP)); });
    if (EXACT && any(~(coded.doubt < steps.sure)))
        coded = code_channels(k, steps.top, middle, lanes, ldl,
                              [&](int i) INLINED { return steps.quotient(load(x + i * STRIP)); });
    return coded.sum;
}

struct Ends {  // the smallest and the largest of the k values of each token; skips NaN, which `quantize` finds
    vf smallest, largest;

    Ends(const float* x, int k) : smallest(load(x)), largest(smallest) {
        for (int i = 1; i < k; ++i)
            smallest = smaller(load(x + i * STRIP), smallest), largest = larger(load(x + i * STRIP), largest);
    }
};

// Fake quantization in strict range, forward and backward, each in one pass over memory, in float32:
//   y = s q + Z,  q = round(clamp(v, 0, top)),  v = (x - Z) / s
// The operations and their order are those of torch, so that codes and values are the same. Sums are kept in pieces
// whose size does not depend on the number of threads.
#pragma once

#include "quantize.h"

struct Grids {  // s and Z of a vector of elements
    vf scale, zero, top;

    vf position(vf x) const { return (x - zero) / scale; }
    vf clipped(vf v) const { return smaller(top, larger(vf{}, v)); }  // NaN stays
    static vf nearest(vf v) { return (v + splat(MAGIC)) - splat(MAGIC); }
    vf value(vf x) const { return rounded(nearest(clipped(position(x))) * scale) + zero; }

    // Returns the gradient of x for the gradient g of y; adds those of s and Z in the lanes of `mask`.
    vf gradient(vf x, vf g, vi mask, vf& of_scale, vf& of_zero) const {
        const vf v = position(x), c = clipped(v);
        const vi inside = (v > vf{}) & (v < top);
        of_scale += (vf)((vi)(g * (inside ? nearest(c) - c : c)) & mask);
        of_zero += (vf)((vi)g & ~inside & mask);
        return (vf)((vi)g & inside);
    }
};

struct Range {
    vf smallest = splat(std::numeric_limits<float>::infinity()), largest = -smallest;
    vi bad{};

    void add(vf x, vi mask) {
        bad |= (x != x) & mask;
        smallest = mask ? smaller(smallest, x) : smallest;
        largest = mask ? larger(largest, x) : largest;
    }
};

// Calls f(first, lanes, mask) for the vectors that cover n neighbours. If n is no multiple of VL, the last vector
// overlaps the one before it, and `last` has the lanes that are new in it.
template <class F>
inline void each_vector(int64_t n, vi last, F f) {
    if (n < VL) return f(int64_t(0), int(n), last);
    int64_t i = 0;
    for (; i + VL <= n; i += VL) f(i, VL, ~vi{});
    if (i < n) f(n - VL, VL, last);
}
inline vi last_lanes(int64_t n) {
    if (n < VL) return tail_mask(int(n));
    return n % VL ? ~tail_mask(VL - int(n % VL)) : ~vi{};
}

struct PairSums {  // float sums of a few vectors each, added up in double
    double scale = 0, zero = 0;
    vf part_scale{}, part_zero{};
    int count = 0;

    void add(vf of_scale, vf of_zero) {
        part_scale += of_scale;
        part_zero += of_zero;
        if (++count == 32) flush();
    }
    void flush() {
        for (int i = 0; i < VL; ++i) scale += part_scale[i], zero += part_zero[i];
        part_scale = part_zero = vf{};
        count = 0;
    }
};

// Elements in memory order. `vectors` 0: rows of n, the last may be shorter; the grids are one, or one a row.
// `vectors` 1: (outer, n, inner), where each of the outer * inner vectors of n elements has its own grid, with step s e
// and zero point Z e + m of its smallest value m and its extent e; s and Z are then one number each.
struct Strict {
    const float *scale, *zero;
    int64_t grids, total, n, inner;
    int vectors;
    float top;

    static constexpr int64_t PIECE = 512, UNIT = 4096;
    static constexpr int WIDE = 64 / VL;  // vectors next to each other that are worked on together, inner > 1

    int64_t rows() const { return (total + n - 1) / n; }
    int64_t rows_of_unit() const { return !vectors || n >= UNIT ? 1 : UNIT / n; }
    int64_t blocks() const { return (inner + 63) / 64; }
    int64_t units() const {
        if (total == 0) return 0;
        return inner > 1 ? total / (n * inner) * blocks() : (rows() + rows_of_unit() - 1) / rows_of_unit();
    }

    // Computes y, or with a gradient g of y that of x (unless it is null) and, in `sums`, those of s and Z.
    template <bool BACKWARD>
    void run(int64_t unit, const float* x, const float* g, float* out, double* sums) const {
        PairSums total_sums;
        if (inner > 1) {
            const int64_t first = unit % blocks() * 64;
            columns<BACKWARD>(unit / blocks() * n * inner + first, inner - first < 64 ? inner - first : 64, x, g, out,
                              total_sums);
        } else {
            const int64_t first = unit * rows_of_unit(), end = first + rows_of_unit();
            for (int64_t r = first; r < end && r < rows(); ++r) row<BACKWARD>(r, x, g, out, total_sums);
        }
        if (BACKWARD && sums) {
            total_sums.flush();
            sums[2 * unit] = total_sums.scale;
            sums[2 * unit + 1] = total_sums.zero;
        }
    }

private:
    template <bool BACKWARD>
    void row(int64_t r, const float* x, const float* g, float* out, PairSums& sums) const {
        const int64_t at = r * n, count = total - at < n ? total - at : n;
        x += at;
        float s = scale[grids > 1 ? r : 0], z = zero[grids > 1 ? r : 0], extent = 1.0f;
        if (vectors) {
            const float smallest = range(x, count, extent);
            s *= extent;
            z = rounded(z * extent) + smallest;
        }
        const Grids grid{splat(s), splat(z), splat(top)};
        for (int64_t first = 0; first < count; first += PIECE) {
            const int64_t size = count - first < PIECE ? count - first : PIECE, from = at + first;
            const float* piece = x + first;
            vf of_scale{}, of_zero{};
            each_vector(size, last_lanes(size), [&](int64_t i, int lanes, vi mask) {
                const vf value = load(piece + i, lanes);
                if (!BACKWARD) return store(out + from + i, grid.value(value), lanes);
                const vf of_x = grid.gradient(value, load(g + from + i, lanes), mask, of_scale, of_zero);
                if (out) store(out + from + i, of_x, lanes);
            });
            if (BACKWARD) sums.add(of_scale * splat(extent), of_zero * splat(extent));
        }
    }

    static float range(const float* x, int64_t count, float& extent) {
        Range range;
        each_vector(count, last_lanes(count),
                    [&](int64_t i, int lanes, vi mask) { range.add(load(x + i, lanes), mask); });
        float smallest = range.smallest[0], largest = range.largest[0];
        for (int i = 1; i < VL; ++i) {
            smallest = range.smallest[i] < smallest ? range.smallest[i] : smallest;
            largest = range.largest[i] > largest ? range.largest[i] : largest;
        }
        if (any(range.bad)) smallest = largest = std::numeric_limits<float>::quiet_NaN();
        extent = extent_of(smallest, largest, 1e-6f, 1e-8f);
        return smallest;
    }

    template <bool BACKWARD>
    void columns(int64_t at, int64_t width, const float* x, const float* g, float* out, PairSums& sums) const {
        Range ranges[WIDE];
        Grids grid[WIDE];
        vf extents[WIDE], of_scale[WIDE] = {}, of_zero[WIDE] = {};
        const vi last = last_lanes(width);
        auto each = [&](int64_t i, auto f) {
            each_vector(width, last, [&](int64_t first, int lanes, vi mask) {
                f(at + i * inner + first, int(first + VL - 1) / VL, lanes, mask);
            });
        };
        for (int64_t i = 0; i < n; ++i)
            each(i, [&](int64_t p, int j, int lanes, vi) { ranges[j].add(load(x + p, lanes), ~vi{}); });
        each(0, [&](int64_t, int j, int, vi) {
            const vf nan = splat(std::numeric_limits<float>::quiet_NaN());
            const vf low = ranges[j].bad ? nan : ranges[j].smallest, high = ranges[j].bad ? nan : ranges[j].largest;
            extents[j] = extent_of(low, high, splat(1e-6f), splat(1e-8f));
            grid[j] = {splat(scale[0]) * extents[j], rounded(splat(zero[0]) * extents[j]) + low, splat(top)};
        });
        for (int64_t i = 0; i < n; ++i)
            each(i, [&](int64_t p, int j, int lanes, vi mask) {
                const vf value = load(x + p, lanes);
                if (!BACKWARD) return store(out + p, grid[j].value(value), lanes);
                const vf of_x = grid[j].gradient(value, load(g + p, lanes), mask, of_scale[j], of_zero[j]);
                if (out) store(out + p, of_x, lanes);
            });
        if (BACKWARD)
            each(0, [&](int64_t, int j, int, vi) { sums.add(of_scale[j] * extents[j], of_zero[j] * extents[j]); });
    }
};

// Computes s and Z of grids with learned bounds l, u and offsets, in units: `Quantizer.grid` in Python.
inline void learned_grids(const float* lower, const float* upper, const float* scale_offset, const float* zero_offset,
                          const float* unit, int64_t count, float top, float floor, float* scale, float* zero) {
    for (int64_t i = 0; i < count; ++i) {
        const float step = (upper[i] - lower[i]) / top + scale_offset[i];
        scale[i] = ((step < floor ? floor : step) + (step - step)) * unit[i];
        zero[i] = (lower[i] + zero_offset[i]) * unit[i];
    }
}

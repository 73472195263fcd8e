// A linear layer on codes, tile by tile: transform, quantize, integer product, rescale.
#pragma once

#include <new>
#include <type_traits>
#include <vector>

#include "profile.h"
#include "simd.h"

template <class T>
struct Aligned {  // allocator of 64-byte aligned memory
    typedef T value_type;
    Aligned() = default;
    template <class U>
    Aligned(const Aligned<U>&) {}
    T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))); }
    void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
    template <class U>
    bool operator==(const Aligned<U>&) const { return true; }
    template <class U>
    bool operator!=(const Aligned<U>&) const { return false; }
};
template <class T>
using Buffer = std::vector<T, Aligned<T>>;

// Rows of a register block with this many vectors per row: sums, weights and one activation must fit the registers.
constexpr int block_rows(int vectors) { return vectors == 1 ? 8 : vectors == 2 && MAX_VECTORS > 2 ? 8 : 4; }

// Calls f<vectors>(first vector) so that blocks of MAX_VECTORS vectors, and a smaller last one, cover n columns.
template <class F>
inline void each_block(int n, F f) {
    int vectors = padded(n) / VL, v = 0;
    for (; v + MAX_VECTORS <= vectors; v += MAX_VECTORS) f(std::integral_constant<int, MAX_VECTORS>(), v);
    int rest = vectors - v;
    if (rest == 1) f(std::integral_constant<int, 1>(), v);
    if constexpr (MAX_VECTORS > 2) {
        if (rest == 2) f(std::integral_constant<int, 2>(), v);
        if (rest == 3) f(std::integral_constant<int, 3>(), v);
    }
}

// Where a matrix of m rows has the elements of the columns that a block of `each_block` works on. As PANELS, blocks
// follow each other, each as a matrix of its own: long matrices whose rows are a power of two apart would share few
// sets of the cache.
template <bool PANELS>
struct Layout {
    int m, n;
    template <int V>
    size_t first(std::integral_constant<int, V>, int first) const { return size_t(first) * VL * (PANELS ? m : 1); }
    template <int V>
    int step(std::integral_constant<int, V>) const { return PANELS ? V * VL : padded(n); }
};

// Rearranges a matrix (m, n padded) into panels.
template <class T>
inline Buffer<T> panels(const Buffer<T>& x, int m, int n) {
    Buffer<T> result(x.size());
    const int width = padded(n);
    each_block(n, [&](auto vectors, int first) {
        const Layout<true> layout{m, n};
        for (int i = 0; i < m; ++i)
            std::memcpy(&result[layout.first(vectors, first) + size_t(i) * layout.step(vectors)],
                        &x[size_t(i) * width + first * VL], sizeof(T) * layout.step(vectors));
    });
    return result;
}

// Computes out (rows, n) = x (rows, k) @ t (k, n padded). rows is a multiple of ROWS; out is written including padding.
// Each sum runs over k in order, as in common BLAS libraries: with the same rounding, codes seldom differ.
template <bool PANELS = false>
inline void multiply(const float* x, int ldx, int rows, const float* t, int k, int n, float* out, int ldo) {
    Timed timed(TRANSFORM);
    each_block(n, [&](auto vectors, int first) {
        constexpr int V = decltype(vectors)::value, R = block_rows(V);
        const float* panel = t + Layout<PANELS>{k, n}.first(vectors, first);
        const int ldt = Layout<PANELS>{k, n}.step(vectors);
        for (int r = 0; r < rows; r += R) {
            vf acc[R][V] = {};
#pragma GCC unroll 4
            for (int i = 0; i < k; ++i) {
                vf row[V];
                for (int v = 0; v < V; ++v) row[v] = load(panel + i * ldt + v * VL);
                for (int j = 0; j < R; ++j) {
                    vf a = splat(x[(r + j) * ldx + i]);
                    for (int v = 0; v < V; ++v) acc[j][v] += a * row[v];
                }
            }
            for (int j = 0; j < R; ++j)
                for (int v = 0; v < V; ++v) store(out + (r + j) * ldo + (first + v) * VL, acc[j][v]);
        }
    });
}

// Multiplies codes (rows, k) by packed weights (k, n); emit(row, column, sums of VL columns) receives the results.
template <bool PANELS = false, class Emit>
inline void product(const code_t* codes, int ldc, int rows, const int32_t* weights, int k, int n, Emit emit) {
    Timed timed(PRODUCT);
    const int groups = padded(k, GROUP) / GROUP;
    each_block(n, [&](auto vectors, int first) {
        constexpr int V = decltype(vectors)::value, R = block_rows(V);
        const int32_t* panel = weights + Layout<PANELS>{groups, n}.first(vectors, first);
        const int ldw = Layout<PANELS>{groups, n}.step(vectors);
        for (int r = 0; r < rows; r += R) {
            vi acc[R][V] = {};
#pragma GCC unroll 4
            for (int g = 0; g < groups; ++g) {
                vi row[V];
                for (int v = 0; v < V; ++v) row[v] = load(panel + g * ldw + v * VL);
                for (int j = 0; j < R; ++j) {
                    int32_t lane;
                    std::memcpy(&lane, codes + (r + j) * ldc + g * GROUP, 4);
                    vi a = splat(lane);
                    for (int v = 0; v < V; ++v) acc[j][v] = dot(acc[j][v], a, row[v]);
                }
            }
            for (int j = 0; j < R; ++j)
                for (int v = 0; v < V; ++v) emit(r + j, (first + v) * VL, acc[j][v]);
        }
    });
}

struct Side {  // an operand: its grid, and whether that is one for values mapped to [0, 1] by the ends of their vector
    Grid grid;
    float vectors;
};

// Returns the grid of a vector from its smallest and largest value, as `vector_range` in Python does.
inline Grid vector_grid(const Grid& grid, float smallest, float largest) {
    const float size = std::fmax(std::fabs(smallest), std::fabs(largest));
    const float extent = std::fmax(largest - smallest, std::fmax(1e-6f * size, 1e-8f));
    return {grid.scale * extent, float(double(grid.zero) * extent) + smallest, grid.top};  // two roundings, no FMA
}

struct Ends {
    float smallest, largest;
};

inline Ends ends_of(const float* row, int k) {  // skips NaN, which `quantize` finds
    if (k < VL) {
        Ends ends{row[0], row[0]};
        for (int i = 1; i < k; ++i)
            ends = {std::fmin(ends.smallest, row[i]), std::fmax(ends.largest, row[i])};
        return ends;
    }
    vf low = load(row + k - VL), high = low;  // overlaps the vector before it unless k is a multiple of VL
    for (int i = 0; i + VL <= k; i += VL) low = smaller(load(row + i), low), high = larger(load(row + i), high);
    return {-maximum(-low), maximum(high)};
}

inline Grid row_grid(const Side& side, const float* row, int k) {
    if (!side.vectors) return side.grid;
    const Ends ends = ends_of(row, k);
    return vector_grid(side.grid, ends.smallest, ends.largest);
}

// Writes the codes of x (rows, k) to codes (rows, ldc), zero from k to the padding, and their sums per row, NaN if the
// row contains NaN; grid_of(row) is the grid of a row.
template <class GridOf>
inline void quantize_rows_on(const float* x, int ldx, int rows, int k, GridOf grid_of, code_t* codes, int ldc,
                             float* sums) {
    Timed timed(QUANTIZE);
    const int vectors = padded(k) / VL;
    const vi mask = tail_mask(k - (vectors - 1) * VL);
    for (int r = 0; r < rows; ++r) {
        const Grid grid = grid_of(r);
        vi total{}, bad{};
        for (int v = 0; v < vectors; ++v) {
            vi wrong{};
            vi q = quantize(load(x + r * ldx + v * VL), grid, wrong);
            if (v == vectors - 1) q &= mask, wrong &= mask;
            store_codes(codes + r * ldc + v * VL, q);
            total += q;
            bad |= wrong;
        }
        sums[r] = any(bad) ? std::numeric_limits<float>::quiet_NaN() : float(sum(total));
    }
}

inline void quantize_rows(const float* x, int ldx, int rows, int k, const Grid& grid, code_t* codes, int ldc,
                          float* sums) {
    quantize_rows_on(x, ldx, rows, k, [&](int) { return grid; }, codes, ldc, sums);
}

// Packs weights (n, k), row-major, into panels of lanes of GROUP coefficients, zero in the padding.
inline Buffer<int32_t> pack(const int8_t* weights, int n, int k) {
    const int groups = padded(k, GROUP) / GROUP, ldw = padded(n);
    Buffer<int32_t> lanes(size_t(groups) * ldw);
    weight_t* packed = reinterpret_cast<weight_t*>(lanes.data());
    for (int row = 0; row < n; ++row)
        for (int i = 0; i < k; ++i)
            packed[(size_t(i / GROUP) * ldw + row) * GROUP + i % GROUP] = weights[size_t(row) * k + i];
    return panels(lanes, groups, n);
}

inline Buffer<float> padded_rows(const float* x, int rows, int n) {  // (rows, n) to (rows, n padded), zero beyond n
    Buffer<float> result(size_t(rows) * padded(n));
    for (int r = 0; r < rows; ++r) std::memcpy(&result[size_t(r) * padded(n)], x + size_t(r) * n, 4 * n);
    return result;
}

// For each of `parts` quantizers of x, with codes q of x and w of the weight:
//     one grid for all of x:  y = a[n] (sum q w) + b[n] (sum q) + c[n],  bias unused
//     a grid (s, Z) per row:  y = s (a[n] (sum q w) + b[n] (sum q)) + Z c[n] + bias[n]
// Before its transform, x becomes (x - shift) / stretch.
struct Linear {
    int k, n, parts;
    Buffer<float> shift, stretch;  // k padded, empty if x is not equalized
    Buffer<float> transform, a, b, c, bias;  // transform empty for the identity
    std::vector<Buffer<int32_t>> weights;  // of each part
    std::vector<Side> sides;
    bool vectors = false;  // whether a part has a grid per row

    // `equalization` has shift and stretch, (2, k), or is null; `tables` are a, b, c and bias, (4, parts, n).
    Linear(int k, int n, int parts, const float* equalization, const float* matrix, const int8_t* codes,
           const float* tables, const Side* sides)
        : k(k), n(n), parts(parts), a(table(tables, 0)), b(table(tables, 1)), c(table(tables, 2)),
          bias(table(tables, 3)), sides(sides, sides + parts) {
        if (equalization) {
            shift = padded_rows(equalization, 1, k), stretch = padded_rows(equalization + k, 1, k);
            for (int i = k; i < padded(k); ++i) stretch[i] = 1.0f;
        }
        if (matrix) transform = panels(padded_rows(matrix, k, k), k, k);
        for (int p = 0; p < parts; ++p) {
            weights.push_back(pack(codes + size_t(p) * n * k, n, k));
            vectors |= sides[p].vectors != 0;
        }
    }

    Buffer<float> table(const float* tables, int i) const { return padded_rows(tables + size_t(i) * parts * n, parts, n); }
    int width() const { return parts * padded(n); }  // floats of an output row; part p begins at p * padded(n)

    struct Space {  // temporary memory for a tile
        Buffer<float> equalized, transformed, sums, scales, zeros;
        std::vector<Ends> ends;
        Buffer<code_t> codes;
        Space(const Linear& layer, int rows)
            : equalized(layer.shift.empty() ? 0 : size_t(rows) * padded(layer.k)),
              transformed(size_t(rows) * padded(layer.k)), sums(rows), scales(rows), zeros(rows), ends(rows),
              codes(size_t(rows) * padded(layer.k)) {}
    };

    // Maps x (rows, ldx >= padded(k)) to out (rows, ldo >= width()); rows is a multiple of ROWS.
    void run(const float* x, int ldx, int rows, float* out, int ldo, Space& space) const {
        const int ldk = padded(k);
        if (!shift.empty()) {
            equalize(x, ldx, rows, space.equalized.data());
            x = space.equalized.data();
            ldx = ldk;
        }
        if (!transform.empty()) {
            multiply<true>(x, ldx, rows, transform.data(), k, k, space.transformed.data(), ldk);
            x = space.transformed.data();
            ldx = ldk;
        }
        if (vectors) {
            Timed timed(QUANTIZE);
            for (int r = 0; r < rows; ++r) space.ends[r] = ends_of(x + r * ldx, k);
        }
        for (int p = 0; p < parts; ++p) sides[p].vectors ? part_by_rows(p, x, ldx, rows, out, ldo, space)
                                                         : part(p, x, ldx, rows, out, ldo, space);
    }

  private:
    void equalize(const float* x, int ldx, int rows, float* out) const {
        Timed timed(QUANTIZE);
        const int ldk = padded(k);
        for (int r = 0; r < rows; ++r, x += ldx, out += ldk)
            for (int i = 0; i < ldk; i += VL) store(out + i, (load(x + i) - load(&shift[i])) / load(&stretch[i]));
    }

    void part(int p, const float* x, int ldx, int rows, float* out, int ldo, Space& space) const {
        const int ldk = padded(k), ldn = padded(n);
        quantize_rows(x, ldx, rows, k, sides[p].grid, space.codes.data(), ldk, space.sums.data());
        const float *pa = &a[p * ldn], *pb = &b[p * ldn], *pc = &c[p * ldn];
        product<true>(space.codes.data(), ldk, rows, weights[p].data(), k, n, [&](int r, int col, vi acc) {
            vf rest = load(pb + col) * splat(space.sums[r]) + load(pc + col);
            store(out + r * ldo + p * ldn + col, load(pa + col) * __builtin_convertvector(acc, vf) + rest);
        });
    }

    void part_by_rows(int p, const float* x, int ldx, int rows, float* out, int ldo, Space& space) const {
        const int ldk = padded(k), ldn = padded(n);
        const auto grid_of = [&](int r) {
            const Grid grid = vector_grid(sides[p].grid, space.ends[r].smallest, space.ends[r].largest);
            space.scales[r] = grid.scale, space.zeros[r] = grid.zero;
            return grid;
        };
        quantize_rows_on(x, ldx, rows, k, grid_of, space.codes.data(), ldk, space.sums.data());
        const float *pa = &a[p * ldn], *pb = &b[p * ldn], *pc = &c[p * ldn], *pd = &bias[p * ldn];
        const float *s = space.scales.data(), *z = space.zeros.data(), *q = space.sums.data();
        product<true>(space.codes.data(), ldk, rows, weights[p].data(), k, n, [&](int r, int col, vi acc) {
            const vf inner = load(pa + col) * __builtin_convertvector(acc, vf) + load(pb + col) * splat(q[r]);
            const vf rest = splat(z[r]) * load(pc + col) + load(pd + col);
            store(out + r * ldo + p * ldn + col, splat(s[r]) * inner + rest);
        });
    }
};

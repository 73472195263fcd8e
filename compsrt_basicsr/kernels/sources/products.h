// Products of two activations on codes, matrix by matrix: one product, or the two of an attention with its softmax.
#pragma once

#include "linear.h"

constexpr int QUERY_TILE = 32;  // rows of the left operand at a time, so that their products stay in the cache

inline vf load_part(const float* p, int valid) {  // the first `valid` of VL floats, zeros beyond
    alignas(64) float values[VL] = {};
    std::memcpy(values, p, 4 * (valid < VL ? valid : VL));
    return load(values);
}
inline vf load_row(const float* row, int i, int n) { return i + VL <= n ? load(row + i) : load_part(row + i, n - i); }

inline int middle(const Grid& grid) { return (int(grid.top) + 1) / 2; }

struct Packed {  // the right operand: n vectors of k centred codes for `product`, and the grid of each vector
    int n, k;
    Buffer<int32_t> lanes;
    Buffer<float> scales, zeros;  // n padded
    Packed(int n, int k)
        : n(n), k(k), lanes(size_t(padded(k, GROUP) / GROUP) * padded(n)), scales(padded(n)), zeros(padded(n)) {}

    // Takes n rows of k contiguous values, `ld` floats apart. Returns false if a value is NaN. With `room`, VL floats
    // may be read from every value on.
    bool take_rows(const float* x, int64_t ld, const Side& side, bool room = false) {
        Timed timed(QUANTIZE);
        const vi centre = splat(int32_t(middle(side.grid)));
        vi bad{};
        std::memset(lanes.data(), 0, 4 * lanes.size());
        weight_t* packed = reinterpret_cast<weight_t*>(lanes.data());
        for (int r = 0; r < n; ++r, x += ld) {
            const Grid grid = row_grid(side, x, k);
            scales[r] = grid.scale, zeros[r] = grid.zero;
            for (int first = 0; first < k; first += VL) {
                vi wrong{}, mask = tail_mask(k - first);
                vi codes = (quantize(room ? load(x + first) : load_row(x, first, k), grid, wrong) - centre) & mask;
                bad |= wrong & mask;
                alignas(64) code_t narrow[VL];
                store_codes(narrow, codes);
                for (int i = 0; i < VL && first + i < k; i += GROUP)
                    std::memcpy(packed + (((first + i) / GROUP) * padded(n) + r) * GROUP, narrow + i, 4);
            }
        }
        return !any(bad);
    }

    // Takes k rows of n contiguous values: the vectors are the columns.
    bool take_columns(const float* x, int64_t ld, const Side& side, bool room = false) {
        Timed timed(QUANTIZE);
        const auto at = [&](int r, int column) {
            const float* row = x + r * ld;
            return room ? load(row + column) : load_row(row, column, n);
        };
        column_grids(side, at);
        const vi centre = splat(int32_t(middle(side.grid)));
        vi bad{};
        std::memset(lanes.data(), 0, 4 * lanes.size());
        weight_t* packed = reinterpret_cast<weight_t*>(lanes.data());
        for (int r = 0; r < k; ++r)
            for (int first = 0; first < n; first += VL) {
                vi wrong{}, mask = tail_mask(n - first);
                const vf scale = load(&scales[first]), zero = load(&zeros[first]);
                vi codes = (quantize(at(r, first), scale, zero, side.grid.top, wrong) - centre) & mask;
                bad |= wrong & mask;
                alignas(64) code_t narrow[VL];
                store_codes(narrow, codes);
                weight_t* to = packed + ((r / GROUP) * padded(n) + first) * GROUP + r % GROUP;
                for (int i = 0; i < VL; ++i) to[i * GROUP] = weight_t(narrow[i]);
            }
        return !any(bad);
    }

    vi sums(int column) const {  // of the codes of VL vectors, with the same product
        vi total{};
        for (int g = 0; g < padded(k, GROUP) / GROUP; ++g)
            total = dot(total, splat(ones()), load(&lanes[size_t(g) * padded(n) + column]));
        return total;
    }

  private:
    template <class At>
    void column_grids(const Side& side, At at) {
        for (int first = 0; first < n; first += VL) {
            vf low = at(0, first), high = low;
            for (int r = 1; side.vectors && r < k; ++r)
                low = smaller(at(r, first), low), high = larger(at(r, first), high);
            for (int i = 0; i < VL; ++i) {
                const Grid grid = side.vectors ? vector_grid(side.grid, low[i], high[i]) : side.grid;
                scales[first + i] = grid.scale, zeros[first + i] = grid.zero;
            }
        }
    }
};

// Returns 1 / (sum of a row of quantized weights), given the sum of its k codes; 0.1 is LEAST_SUM in Python.
inline float row_share(const Grid& grid, float codes, int k) {
    const float total = grid.scale * codes + grid.zero * k;
    return 1.0f / (total < 0.1f ? 0.1f : total);
}

// Writes the codes of exp(logit - largest logit) of a row. Returns their sum, NaN if the row has no softmax.
inline float softmax_codes(const float* row, int n, const Grid& grid, code_t* codes) {
    Timed timed(SOFTMAX);
    const int vectors = padded(n) / VL;
    vf most = load(row);
    for (int v = 1; v < vectors; ++v) most = larger(load(row + v * VL), most);
    const vf largest = splat(maximum(most)), factor = splat(1.0f / grid.scale), first = splat(-grid.zero / grid.scale),
             top = splat(grid.top);
    vf below{};  // NaN after a NaN or a second infinity
    vi total{};
    const auto code = [&](int v) {
        const vf x = load(row + v * VL) - largest;
        below += x;
        const vf q = smaller(larger(exp_negative(x) * factor + first, vf{}), top);
        return (vi)(q + splat(MAGIC)) - (vi)splat(MAGIC);
    };
#pragma GCC unroll 4
    for (int v = 0; v < vectors - 1; ++v) {
        const vi q = code(v);
        store_codes(codes + v * VL, q);
        total += q;
    }
    const vi q = code(vectors - 1) & tail_mask(n - (vectors - 1) * VL);
    store_codes(codes + (vectors - 1) * VL, q);
    const float spread = sum(below);
    return spread != spread ? spread : float(sum(total + q));
}

struct Strides {  // in floats: of two batch dimensions, of which the second has `heads` entries, and of rows
    const int64_t* strides;
    int heads;
    int64_t at(int64_t i) const { return i / heads * strides[0] + i % heads * strides[1]; }
    int64_t row() const { return strides[2]; }
};

// out (rows, n) = left (rows, k) right, where right has n vectors of k values, as rows or as columns.
struct Product {
    int rows, n, k;
    bool by_columns, weights;  // weights: of a softmax, divided by their largest value, and the result by their sum
    Side left, right;
    float factor;  // of the result
};

inline void store_part(float* p, vf v, int valid) { std::memcpy(p, &v, 4 * (valid < VL ? valid : VL)); }

// With codes q on the grid (s, Z) of row m, and centred codes w on that of column n, with zero point Z', the product is
//     s (S sum q w + R sum q) + Z C,  S = s_n,  R = Z'_n,  C = S sum w + k R.
struct Multiplier {
    const Product& p;
    Packed right;
    Buffer<float> row, steps, offsets, constants, scales, zeros, sums;  // S, R, C; s, Z and sum q of each row
    Buffer<code_t> codes;

    explicit Multiplier(const Product& p)
        : p(p), right(p.n, p.k), row(padded(p.k)), steps(padded(p.n)), offsets(padded(p.n)), constants(padded(p.n)),
          scales(QUERY_TILE), zeros(QUERY_TILE), sums(QUERY_TILE), codes(size_t(QUERY_TILE) * padded(p.k)) {}

    // Packs the right operand. Returns false if it contains NaN.
    bool take(const float* x, int64_t ld) {
        if (!(p.by_columns ? right.take_columns(x, ld, p.right) : right.take_rows(x, ld, p.right))) return false;
        for (int j = 0; j < p.n; j += VL) {
            const vf scale = load(&right.scales[j]), step = splat(p.factor) * scale;
            const vf offset = splat(p.factor) * (load(&right.zeros[j]) + scale * splat(float(middle(p.right.grid))));
            store(&steps[j], step);
            store(&offsets[j], offset);
            store(&constants[j], step * __builtin_convertvector(right.sums(j), vf) + splat(float(p.k)) * offset);
        }
        return true;
    }

    // Quantizes rows of the left operand.
    void quantize(const float* x, int64_t ld, int rows) {
        for (int r = 0; r < rows; ++r, x += ld) {
            const float* from = x;
            if (p.weights) {
                vf most = splat(std::numeric_limits<float>::min());  // weights are at least 0, and so is the padding
                for (int i = 0; i < p.k; i += VL) most = larger(load_row(x, i, p.k), most);
                const vf largest = splat(maximum(most));
                for (int i = 0; i < p.k; i += VL) store(&row[i], load_row(x, i, p.k) / largest);
                from = row.data();
            } else if (p.k % VL) {
                std::memcpy(row.data(), x, 4 * p.k);
                from = row.data();
            }
            const Grid grid = row_grid(p.left, from, p.k);
            quantize_rows(from, 0, 1, p.k, grid, &codes[r * padded(p.k)], 0, &sums[r]);
            scales[r] = grid.scale, zeros[r] = grid.zero;
        }
    }

    // Multiplies the codes of rows by those of the right operand; emit(row, column, VL values) receives the results.
    template <class Emit>
    void multiply(int rows, Emit emit) const {
        const float *s = scales.data(), *z = zeros.data(), *q = sums.data();
        const float *steps = this->steps.data(), *offsets = this->offsets.data(), *constants = this->constants.data();
        product(codes.data(), padded(p.k), padded(rows, ROWS), right.lanes.data(), p.k, p.n,
                [&](int r, int j, vi acc) {
                    if (r >= rows) return;
                    const vf total = __builtin_convertvector(acc, vf);
                    const vf inner = load(steps + j) * total + load(offsets + j) * splat(q[r]);
                    emit(r, j, splat(s[r]) * inner + splat(z[r]) * load(constants + j));
                });
    }

    // Multiplies, divides by the sums of weights, and writes rows `ldo` floats apart.
    void write(int rows, float* out, int64_t ldo) const {
        float shares[QUERY_TILE];
        for (int r = 0; r < rows; ++r) shares[r] = p.weights ? row_share(p.left.grid, sums[r], p.k) : 1.0f;
        multiply(rows, [&](int r, int column, vf y) {
            float* to = out + r * ldo + column;
            if (column + VL <= p.n) store(to, y * splat(shares[r]));
            else store_part(to, y * splat(shares[r]), p.n - column);
        });
    }

    void run(const float* left, int64_t ldl, const float* x, int64_t ldr, float* out, int64_t ldo) {
        if (!take(x, ldr)) return fill_nan(out, ldo, p.rows, p.n);
        for (int first = 0; first < p.rows; first += QUERY_TILE) {
            const int rows = p.rows - first < QUERY_TILE ? p.rows - first : QUERY_TILE;
            quantize(left + first * ldl, ldl, rows);
            write(rows, out + first * ldo, ldo);
        }
    }

    static void fill_nan(float* out, int64_t ldo, int rows, int n) {
        for (int r = 0; r < rows; ++r)
            for (int i = 0; i < n; ++i) out[r * ldo + i] = std::numeric_limits<float>::quiet_NaN();
    }
};

// softmax(q k^T + mask) v: the first product has the scale of the logits as its factor, the second has weights.
struct Softmax {
    Multiplier logits, values;
    Buffer<float> rows;

    Softmax(const Product& first, const Product& second)
        : logits(first), values(second), rows(size_t(QUERY_TILE) * padded(first.n)) {}

    // Computes one matrix; the mask may be null.
    void run(const float* q, int64_t ldq, const float* k, int64_t ldk, const float* v, int64_t ldv, const float* mask,
             int64_t ldm, float* out, int64_t ldo) {
        const int queries = logits.p.rows, keys = logits.p.n, ld = padded(keys);
        const bool good = logits.take(k, ldk) & values.take(v, ldv);
        if (!good) return Multiplier::fill_nan(out, ldo, queries, values.p.n);
        const vi last = tail_mask(keys - (ld - VL));
        for (int first = 0; first < queries; first += QUERY_TILE, mask += mask ? QUERY_TILE * ldm : 0) {
            const int count = queries - first < QUERY_TILE ? queries - first : QUERY_TILE;
            logits.quantize(q + first * ldq, ldq, count);
            logits.multiply(count, [&](int r, int j, vf logit) {
                if (mask) logit += load_row(mask + r * ldm, j, keys);
                store(&rows[r * ld + j], j + VL > keys ? (last ? logit : splat(-1e30f)) : logit);
            });
            for (int r = 0; r < count; ++r) {
                values.sums[r] = softmax_codes(&rows[r * ld], keys, values.p.left.grid, &values.codes[r * ld]);
                values.scales[r] = values.p.left.grid.scale, values.zeros[r] = values.p.left.grid.zero;
            }
            values.write(count, out + first * ldo, ldo);
        }
    }
};

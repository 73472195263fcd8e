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

// Packs the centred codes of n vectors of k contiguous values, `ld` floats apart, for `product`. Returns false if a
// value is NaN. With `room`, VL floats may be read from every value on.
inline bool pack_vectors(const float* x, int64_t ld, int n, int k, const Grid& grid, Buffer<int32_t>& lanes,
                         bool room = false) {
    Timed timed(QUANTIZE);
    const int ldw = padded(n);
    const vi centre = splat(int32_t(middle(grid)));
    vi bad{};
    std::memset(lanes.data(), 0, 4 * lanes.size());
    weight_t* packed = reinterpret_cast<weight_t*>(lanes.data());
    for (int r = 0; r < n; ++r)
        for (int first = 0; first < k; first += VL) {
            vi wrong{}, mask = tail_mask(k - first);
            const float* p = x + r * ld;
            vi codes = (quantize(room ? load(p + first) : load_row(p, first, k), grid, wrong) - centre) & mask;
            bad |= wrong & mask;
            alignas(64) code_t narrow[VL];
            store_codes(narrow, codes);
            for (int i = 0; i < VL && first + i < k; i += GROUP)
                std::memcpy(packed + (((first + i) / GROUP) * ldw + r) * GROUP, narrow + i, 4);
        }
    return !any(bad);
}

// The same for k rows of n contiguous values: the vectors are the columns.
inline bool pack_columns(const float* x, int64_t ld, int n, int k, const Grid& grid, Buffer<int32_t>& lanes,
                         bool room = false) {
    Timed timed(QUANTIZE);
    const int ldw = padded(n);
    const vi centre = splat(int32_t(middle(grid)));
    vi bad{};
    std::memset(lanes.data(), 0, 4 * lanes.size());
    weight_t* packed = reinterpret_cast<weight_t*>(lanes.data());
    for (int r = 0; r < k; ++r)
        for (int first = 0; first < n; first += VL) {
            vi wrong{}, mask = tail_mask(n - first);
            const float* p = x + r * ld;
            vi codes = (quantize(room ? load(p + first) : load_row(p, first, n), grid, wrong) - centre) & mask;
            bad |= wrong & mask;
            alignas(64) code_t narrow[VL];
            store_codes(narrow, codes);
            weight_t* to = packed + ((r / GROUP) * ldw + first) * GROUP + r % GROUP;
            for (int i = 0; i < VL; ++i) to[i * GROUP] = weight_t(narrow[i]);
        }
    return !any(bad);
}

inline size_t packed_lanes(int n, int k) { return size_t(padded(k, GROUP) / GROUP) * padded(n); }

// Sums each vector of packed codes, with the same product.
inline vi packed_sums(const int32_t* lanes, int k, int n, int column) {
    vi total{};
    for (int g = 0; g < padded(k, GROUP) / GROUP; ++g)
        total = dot(total, splat(ones()), load(lanes + g * padded(n) + column));
    return total;
}

// Returns 1 / (sum of a row of quantized weights), given the sum of its k codes; 0.1 is LEAST_SUM in Python.
inline float row_share(const Grid& grid, float codes, int k) {
    const float total = grid.scale * codes + grid.zero * k;
    return 1.0f / (total < 0.1f ? 0.1f : total);
}

// Replaces a row of logits by the codes of exp(logit - largest logit). Returns their sum, NaN if the row has no softmax.
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

struct Operand {  // matrices of two batch dimensions; `row` floats lie between rows, the values of a row are contiguous
    const float* data;
    int64_t outer, inner, row;
    const float* at(int64_t i, int heads) const { return data + i / heads * outer + i % heads * inner; }
};

// out (rows, n) = left (rows, k) right, where right has n vectors of k values, as rows or as columns.
struct Product {
    int rows, n, k;
    bool by_columns, weights;  // weights: of a softmax, divided by their largest value, and the result by their sum
    Grid left, right;
};

inline void store_part(float* p, vf v, int valid) { std::memcpy(p, &v, 4 * (valid < VL ? valid : VL)); }

struct ProductSpace {
    Buffer<int32_t> lanes;
    Buffer<float> row, constants, sums;
    Buffer<code_t> codes;
    ProductSpace(int n, int k)
        : lanes(packed_lanes(n, k)), row(padded(k)), constants(padded(n)), sums(QUERY_TILE),
          codes(size_t(QUERY_TILE) * padded(k)) {}
};

// Multiplies a tile of codes by packed ones and rescales into out, `ldo` floats between rows.
inline void scaled_product(const Product& p, const ProductSpace& s, int rows, float* out, int64_t ldo) {
    const float *constants = s.constants.data(), zero = p.left.scale * (p.right.zero + p.right.scale * middle(p.right));
    const vf step = splat(p.left.scale * p.right.scale);
    float sums[QUERY_TILE], shares[QUERY_TILE];
    for (int r = 0; r < rows; ++r) {
        sums[r] = zero * s.sums[r];
        shares[r] = p.weights ? row_share(p.left, s.sums[r], p.k) : 1.0f;
    }
    product(s.codes.data(), padded(p.k), padded(rows, ROWS), s.lanes.data(), p.k, p.n, [&](int r, int column, vi acc) {
        if (r >= rows) return;
        vf y = step * __builtin_convertvector(acc, vf) + (splat(sums[r]) + load(constants + column));
        y *= splat(shares[r]);
        float* to = out + r * ldo + column;
        if (column + VL <= p.n) store(to, y);
        else store_part(to, y, p.n - column);
    });
}

// Fills `constants`, the terms that do not depend on the row.
inline void column_constants(const Product& p, ProductSpace& s) {
    const float zero = p.right.zero + p.right.scale * middle(p.right);
    for (int j = 0; j < p.n; j += VL) {
        vf sums = __builtin_convertvector(packed_sums(s.lanes.data(), p.k, p.n, j), vf);
        store(&s.constants[j], splat(p.left.zero * p.right.scale) * sums + splat(p.k * p.left.zero * zero));
    }
}

inline void fill_nan(float* out, int64_t ldo, int rows, int n) {
    for (int r = 0; r < rows; ++r)
        for (int i = 0; i < n; ++i) out[r * ldo + i] = std::numeric_limits<float>::quiet_NaN();
}

inline bool pack_right(const Product& p, const float* x, int64_t ld, ProductSpace& s) {
    return p.by_columns ? pack_columns(x, ld, p.n, p.k, p.right, s.lanes) : pack_vectors(x, ld, p.n, p.k, p.right, s.lanes);
}

// Quantizes rows of the left operand into the tile of codes.
inline void quantize_left(const Product& p, const float* x, int64_t ld, int rows, ProductSpace& s) {
    const int k = p.k, ldk = padded(k);
    float* copy = s.row.data();  // zero beyond k
    for (int r = 0; r < rows; ++r, x += ld) {
        const float* row = x;
        if (p.weights) {
            vf most = splat(std::numeric_limits<float>::min());  // weights are at least 0, and so is the padding
            for (int i = 0; i < k; i += VL) most = larger(load_row(x, i, k), most);
            const vf largest = splat(maximum(most));
            for (int i = 0; i < k; i += VL) store(copy + i, load_row(x, i, k) / largest);
            row = copy;
        } else if (k % VL) {
            std::memcpy(copy, x, 4 * k);
            row = copy;
        }
        quantize_rows(row, ldk, 1, k, p.left, &s.codes[r * ldk], ldk, &s.sums[r]);
    }
}

inline void run_product(const Product& p, const float* left, int64_t ldl, const float* right, int64_t ldr, float* out,
                        ProductSpace& s) {
    if (!pack_right(p, right, ldr, s)) return fill_nan(out, p.n, p.rows, p.n);
    column_constants(p, s);
    for (int first = 0; first < p.rows; first += QUERY_TILE) {
        const int rows = p.rows - first < QUERY_TILE ? p.rows - first : QUERY_TILE;
        quantize_left(p, left + first * ldl, ldl, rows, s);
        scaled_product(p, s, rows, out + int64_t(first) * p.n, p.n);
    }
}

// softmax(scale q k^T + mask) v: `logits` is the first product, `values` the second, with weights.
struct Softmax {
    Product logits, values;
    float scale;

    struct Space {
        ProductSpace logits, values;
        Buffer<float> rows;
        explicit Space(const Softmax& a)
            : logits(a.logits.n, a.logits.k), values(a.values.n, a.values.k),
              rows(size_t(QUERY_TILE) * padded(a.logits.n)) {}
    };

    // Computes one matrix; omits terms that are constant along a row of logits, because softmax ignores them.
    void run(const float* q, int64_t ldq, const float* k, int64_t ldk, const float* v, int64_t ldv, const float* mask,
             int64_t ldm, float* out, int64_t ldo, Space& s) const {
        const int keys = logits.n, ldt = padded(keys), ldd = padded(logits.k);
        const bool good = pack_right(logits, k, ldk, s.logits) & pack_right(values, v, ldv, s.values);
        if (!good) return fill_nan(out, ldo, logits.rows, values.n);
        column_constants(values, s.values);
        const vf factor = splat(scale * logits.right.scale * logits.left.zero), minus = splat(-1e30f);
        for (int j = 0; j < ldt; j += VL)
            store(&s.logits.constants[j],
                  factor * __builtin_convertvector(packed_sums(s.logits.lanes.data(), logits.k, keys, j), vf));
        const vf step = splat(scale * logits.left.scale * logits.right.scale);
        const vi last = tail_mask(keys - (ldt - VL));
        for (int first = 0; first < logits.rows; first += QUERY_TILE) {
            const int rows = logits.rows - first < QUERY_TILE ? logits.rows - first : QUERY_TILE;
            quantize_left(logits, q + first * ldq, ldq, rows, s.logits);
            product(s.logits.codes.data(), ldd, padded(rows, ROWS), s.logits.lanes.data(), logits.k, keys,
                    [&](int r, int j, vi acc) {
                        vf logit = step * __builtin_convertvector(acc, vf) + load(&s.logits.constants[j]);
                        if (mask && r < rows) logit += load_row(mask + (first + r) * ldm, j, keys);
                        if (j + VL > keys) logit = last ? logit : minus;
                        store(&s.rows[r * ldt + j], logit);
                    });
            for (int r = 0; r < rows; ++r) {
                const float q_sum = s.logits.sums[r];
                const float sum = softmax_codes(&s.rows[r * ldt], keys, values.left, &s.values.codes[r * ldt]);
                s.values.sums[r] = q_sum == q_sum ? sum : q_sum;  // NaN
            }
            scaled_product(values, s.values, rows, out + first * ldo, ldo);
        }
    }
};

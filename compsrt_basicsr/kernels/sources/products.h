// Products of two activations on codes, matrix by matrix: one product, or the two of an attention with its softmax.
#pragma once

#include "attention.h"

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

struct Rows {  // of a matrix, `ld` floats apart
    const float* x;
    int64_t ld;
    const float* operator()(int64_t r) const { return x + r * ld; }
};

// With codes q on the grid (s, Z) of row m, and centred codes w on that of column n, with zero point Z', the product is
//     s (S sum q w + R sum q) + Z C,  S = s_n,  R = Z'_n,  C = S sum w + k R.
// The rows are worked on strip by strip: they are the tokens of the left operand.
struct Multiplier {
    const Product& p;
    Buffer<float> values, steps, offsets, constants, result;  // a strip of an operand; S, R, C; a strip of the product
    Buffer<int32_t> right, codes;
    vf scales[V], zeros[V], sums[V];  // s, Z and sum q of the rows of a strip

    explicit Multiplier(const Product& p)
        : p(p), values(size_t(p.k) * STRIP), steps(padded_n()), offsets(steps.size()), constants(steps.size()),
          result(size_t(p.n) * STRIP), right(size_t(groups_of(p.k)) * padded_n()),
          codes(size_t(groups_of(p.k)) * STRIP) {}

    int padded_n() const { return strips_of(p.n) * STRIP; }

    // Packs the right operand. Returns false if it contains NaN.
    bool take(Rows from) {
        bool good = true;
        for (int first = 0; first < p.n; first += STRIP) {
            const int count = p.n - first < STRIP ? p.n - first : STRIP;
            if (p.by_columns) {
                for (int i = 0; i < p.k; ++i) std::memcpy(&values[i * STRIP], from(i) + first, 4 * count);
            } else {
                to_strips(Rows{from(first), from.ld}, count, p.k, values.data());
            }
            for (int t = 0; t < STRIP; t += VL) good &= take_vectors(first, t, count);
        }
        return good;
    }

    // Quantizes the rows of a strip of the left operand.
    void quantize(Rows from, int rows) {
        to_strips(from, rows, p.k, values.data());
        if (p.weights) divide_by_largest();
        Timed timed(QUANTIZE);
        for (int v = 0; v < V; ++v) {
            const Steps grid = steps_of(p.left, v * VL);
            scales[v] = grid.scale, zeros[v] = grid.zero;
            sums[v] = quantize_channels<true>(&values[v * VL], p.k, grid, 0, &codes[v * VL], STRIP);
        }
    }

    // Multiplies the codes of a strip by those of the right operand; emit(column, first row, VL rows) gets the results.
    template <class Emit>
    void multiply(Emit emit) const {
        const Factor factor{right.data(), p.n, p.k, padded_n(), groups_at_once()};
        product(codes.data(), 1, factor, [&](int, int j, int t, vi acc) INLINED {
            const vf inner = splat(steps[j]) * __builtin_convertvector(acc, vf) + splat(offsets[j]) * sums[t / VL];
            emit(j, t, scales[t / VL] * inner + zeros[t / VL] * splat(constants[j]));
        });
    }

    // Multiplies, divides by the sums of weights, and writes rows `ldo` floats apart.
    void write(int rows, float* out, int64_t ldo) {
        vf share[V];
        for (int v = 0; v < V; ++v) share[v] = p.weights ? row_share(p.left.grid, sums[v], p.k) : splat(1.0f);
        multiply([&](int j, int t, vf y) INLINED { store(&result[j * STRIP + t], y * share[t / VL]); });
        from_strips(result.data(), rows, {p.n, 0, p.n}, [&](int r) { return out + r * ldo; });
    }

    void run(Rows left, Rows other, float* out, int64_t ldo) {
        if (!take(other)) return fill_nan(out, ldo, p.rows, p.n);
        for (int first = 0; first < p.rows; first += STRIP) {
            const int rows = p.rows - first < STRIP ? p.rows - first : STRIP;
            quantize({left(first), left.ld}, rows);
            write(rows, out + first * ldo, ldo);
        }
    }

    static void fill_nan(float* out, int64_t ldo, int rows, int n) {
        for (int r = 0; r < rows; ++r)
            for (int i = 0; i < n; ++i) out[r * ldo + i] = std::numeric_limits<float>::quiet_NaN();
    }

  private:
    int groups_at_once() const { return short_groups_of(int(p.left.grid.top), middle(p.right.grid)); }

    Steps steps_of(const Side& side, int t) const {
        if (!side.vectors) return Steps(side.grid);
        const Ends ends(&values[t], p.k);
        return Steps(side, ends.smallest, ends.largest, 1.0f);
    }

    bool take_vectors(int first, int t, int count) {  // vectors first + t to first + t + VL, of which `count - t` exist
        Timed timed(QUANTIZE);
        const int centre = middle(p.right.grid), at = first + t;
        const Steps grid = steps_of(p.right, t);
        const vf sum = quantize_channels<true>(&values[t], p.k, grid, centre, &right[at], padded_n());
        const vf step = splat(p.factor) * grid.scale;
        const vf offset = splat(p.factor) * (grid.zero + grid.scale * splat(float(centre)));
        store(&steps[at], step);
        store(&offsets[at], offset);
        store(&constants[at], step * (sum - splat(float(centre) * p.k)) + splat(float(p.k)) * offset);
        return !any((sum != sum) & tail_mask(count - t));
    }

    void divide_by_largest() {
        Timed timed(QUANTIZE);
        for (int t = 0; t < STRIP; t += VL) {
            const vf largest = larger(Ends(&values[t], p.k).largest, splat(std::numeric_limits<float>::min()));
            for (int i = 0; i < p.k; ++i) store(&values[i * STRIP + t], load(&values[i * STRIP + t]) / largest);
        }
    }
};

// softmax(q k^T + mask) v: the first product has the scale of the logits as its factor, the second has weights.
struct Softmax {
    Multiplier logits, values;
    Buffer<float> rows, masks;  // a strip of queries: (keys, STRIP)

    Softmax(const Product& first, const Product& second)
        : logits(first), values(second), rows(size_t(first.n) * STRIP), masks(rows.size()) {}

    // Computes one matrix; the mask may be null.
    void run(Rows q, Rows k, Rows v, Rows mask, float* out, int64_t ldo) {
        const int queries = logits.p.rows, keys = logits.p.n;
        const bool good = logits.take(k) & values.take(v);
        if (!good) return Multiplier::fill_nan(out, ldo, queries, values.p.n);
        for (int first = 0; first < queries; first += STRIP) {
            const int count = queries - first < STRIP ? queries - first : STRIP;
            logits.quantize({q(first), q.ld}, count);
            if (mask.x) to_strips(Rows{mask(first), mask.ld}, count, keys, masks.data());
            vf largest[V];
            for (vf& each : largest) each = splat(-std::numeric_limits<float>::infinity());
            logits.multiply([&](int j, int t, vf logit) INLINED {
                if (mask.x) logit += load(&masks[j * STRIP + t]);
                store(&rows[j * STRIP + t], logit);
                largest[t / VL] = larger(logit, largest[t / VL]);
            });
            take_softmax(largest);
            values.write(count, out + first * ldo, ldo);
        }
    }

  private:
    // Writes the codes of exp(logit - largest logit) as those of the weights; their sum is NaN after NaN or infinity.
    void take_softmax(const vf* largest) {
        Timed timed(SOFTMAX);
        const Steps steps(values.p.left.grid);
        for (int v = 0; v < V; ++v) {
            vf below{};
            values.scales[v] = steps.scale, values.zeros[v] = steps.zero;
            const float* logit = &rows[v * VL];
            const vf most = largest[v];
            const auto numerators = [&, logit, most](int j, auto& of) INLINED {
                for (vf& each : of) below += each = load(logit + j++ * STRIP) - most;
                exp_negative(of);
                for (vf& each : of) each = steps.position(each);
            };
            const vf sum = code_channels(logits.p.n, steps.top, 0, &values.codes[v * VL], STRIP, numerators).sum;
            values.sums[v] = below != below ? below : sum;
        }
    }
};

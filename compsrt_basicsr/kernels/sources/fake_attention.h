// Window attention with fake-quantized operands, forward and backward, in float32, one head of one window at a time:
//   q^ = Q(c q), k^ = Q(k), v^ = Q(v), l = q^ k^T + bias + mask, e = exp(l - largest l of the row)
//   deferred:   e^ = Q(e),      y = e^ v^ / sum e^        normalized: e^ = Q(e / sum e),  y = e^ v^
// A step of 0 leaves an operand as it is; this has no gradient.
// No matrix of logits leaves the cache: the gradient computes it again from q, k and v. Matrices of logits are
// transposed, (keys, queries), and vectors hold neighbouring queries, so that no sum crosses lanes.
#pragma once

#include <algorithm>

#include "fake_quantize.h"
#include "strip.h"

struct FakeAttention {
    const float *q, *k, *v;     // (windows, tokens, heads * dim), rows `stride` floats apart
    const float *bias, *mask;   // (heads, keys, queries), and (masks, keys, queries) or null
    const float* grids;         // s and Z of q, k, v and the weights
    int64_t windows, stride, masks;
    int heads, tokens, dim, deferred;
    float factor, top, least;   // c; 2^b - 1; the smallest divisor

    static constexpr int GROUPS = 16;  // of windows: a unit of work is one head of a group
    static constexpr int OPERANDS = 4;

    int64_t group() const { return (windows + GROUPS - 1) / GROUPS; }
    int64_t units() const { return windows ? (windows + group() - 1) / group() * heads : 0; }
    bool quantizes(int i) const { return grids[2 * i] != 0; }
    Grids grid(int i) const { return {splat(grids[2 * i]), splat(grids[2 * i + 1]), splat(top)}; }
};

struct AttentionGradients {
    const float* out;   // of y, (windows, tokens, heads * dim)
    float *q, *k, *v;   // written, in that layout
    float* bias;        // (units, keys, queries), written; null if not wanted
    double* grids;      // (units, 4, 2): of s and Z
};

// out[j][.] = sum over d of rows[j][d] columns[d][.], for W vectors of columns.
template <int W>
inline void rows_by_columns(const float* rows, int ld, int n, int dim, const float* columns, float* out) {
    auto block = [&](auto count, int j) {
        constexpr int R = decltype(count)::value;
        vf acc[R][W] = {};
        for (int d = 0; d < dim; ++d)
            for (int r = 0; r < R; ++r)
                for (int w = 0; w < W; ++w)
                    acc[r][w] += splat(rows[(j + r) * ld + d]) * load(columns + (d * W + w) * VL);
        for (int r = 0; r < R; ++r)
            for (int w = 0; w < W; ++w) store(out + ((j + r) * W + w) * VL, acc[r][w]);
    };
    int j = 0;
    for (; j + 4 <= n; j += 4) block(std::integral_constant<int, 4>(), j);
    for (; j < n; ++j) block(std::integral_constant<int, 1>(), j);
}

// out[d][.] = sum over j of rows[j][d] matrix[j][.], for W vectors.
template <int W>
inline void columns_by_matrix(const float* rows, int ld, int n, int dim, const float* matrix, float* out) {
    auto block = [&](auto count, int d) {
        constexpr int R = decltype(count)::value;
        vf acc[R][W] = {};
        for (int j = 0; j < n; ++j)
            for (int r = 0; r < R; ++r)
                for (int w = 0; w < W; ++w)
                    acc[r][w] += splat(rows[j * ld + d + r]) * load(matrix + (j * W + w) * VL);
        for (int r = 0; r < R; ++r)
            for (int w = 0; w < W; ++w) store(out + ((d + r) * W + w) * VL, acc[r][w]);
    };
    int d = 0;
    for (; d + 5 <= dim; d += 5) block(std::integral_constant<int, 5>(), d);
    for (; d + 2 <= dim; d += 2) block(std::integral_constant<int, 2>(), d);
    for (; d < dim; ++d) block(std::integral_constant<int, 1>(), d);
}

// out[j][.] += sum over i of matrix[j][i] rows[i][.], for `count` columns i and rows of `ld` floats, a multiple of VL.
inline void add_matrix_by_rows(const float* matrix, int count, int n, const float* rows, int ld, float* out) {
    auto block = [&](auto height, auto vectors, int j, int d) {
        constexpr int R = decltype(height)::value, V = decltype(vectors)::value;
        vf acc[R][V];
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; ++v) acc[r][v] = load(out + (j + r) * ld + d + v * VL);
        for (int i = 0; i < count; ++i)
            for (int r = 0; r < R; ++r)
                for (int v = 0; v < V; ++v)
                    acc[r][v] += splat(matrix[(j + r) * count + i]) * load(rows + i * ld + d + v * VL);
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; ++v) store(out + (j + r) * ld + d + v * VL, acc[r][v]);
    };
    auto stripe = [&](auto vectors, int d) {
        int j = 0;
        for (; j + 4 <= n; j += 4) block(std::integral_constant<int, 4>(), vectors, j, d);
        for (; j < n; ++j) block(std::integral_constant<int, 1>(), vectors, j, d);
    };
    int d = 0;
    for (; d + 2 * VL <= ld; d += 2 * VL) stripe(std::integral_constant<int, 2>(), d);
    if (d < ld) stripe(std::integral_constant<int, 1>(), d);
}

// One head of one window after the other; W vectors of queries are worked on together.
template <int W>
class FakeHead {
    static constexpr int I = W * VL;
    const FakeAttention& a;
    const int n, dim, ld;  // tokens, and floats of a row: dim and zeros
    Buffer<float> raw[3], rows[3], columns, numerators, weights, products, result, of_rows[3], of_y, of_y_columns;
    vf divisor[W], passes[W];  // of the queries at work; `passes`: 1 where the sum of a row is the divisor
    PairSums sums[FakeAttention::OPERANDS];

public:
    explicit FakeHead(const FakeAttention& a)
        : a(a), n(a.tokens), dim(a.dim), ld(padded(a.dim)), columns(size_t(dim) * n), numerators(size_t(n) * I),
          weights(numerators.size()), products(numerators.size()), result(size_t(dim) * I), of_y(size_t(I) * ld),
          of_y_columns(size_t(dim) * I) {
        for (int i = 0; i < 3; ++i)
            for (auto* buffer : {&raw[i], &rows[i], &of_rows[i]}) buffer->resize(size_t(n) * ld);
    }

    void forward(int64_t window, int head, float* y) {
        take(window, head);
        y += at(window, head, a.heads * dim);
        for (int first = 0; first < n; first += I) {
            weigh(window, head, first);
            columns_by_matrix<W>(rows[2].data(), ld, n, dim, weights.data(), result.data());
            for (int d = 0; d < dim; ++d)
                for (int w = 0; w < W; ++w) {
                    float* p = &result[(d * W + w) * VL];
                    if (a.deferred) store(p, load(p) / divisor[w]);
                }
            for (int i = 0; i < I; ++i)
                for (int d = 0; d < dim; ++d) y[int64_t(first + i) * a.heads * dim + d] = result[d * I + i];
        }
    }

    // Writes what the quantizer of the weights receives, (queries, keys).
    void show_weights(int64_t window, int head, float* out) {
        take(window, head);
        for (int first = 0; first < n; first += I) {
            weigh(window, head, first);
            for (int j = 0; j < n; j += SQUARE)
                for (int i = 0; i < I; i += SQUARE) {
                    const auto from = [&](int row) { return &numerators[(j + row) * I + i]; };
                    const auto to = [&](int row) { return out + int64_t(first + i + row) * n + j; };
                    if (n - j >= SQUARE && I - i >= SQUARE) {
                        transpose(from, to);
                        continue;
                    }
                    for (int r = 0; r < std::min(SQUARE, n - j); ++r)
                        for (int c = 0; c < std::min(SQUARE, I - i); ++c) to(c)[r] = from(r)[c];
                }
        }
    }

    // `of_bias` (keys, queries) is added to, unless it is null.
    void backward(int64_t window, int head, const AttentionGradients& g, float* of_bias) {
        take(window, head);
        for (auto& buffer : of_rows) std::fill(buffer.begin(), buffer.end(), 0.0f);
        const int64_t width = a.heads * dim, offset = at(window, head, width);
        for (int first = 0; first < n; first += I) {
            weigh(window, head, first);
            for (int i = 0; i < I; ++i)
                for (int d = 0; d < dim; ++d)
                    of_y_columns[d * I + i] = of_y[i * ld + d] = g.out[offset + (first + i) * width + d];
            if (a.deferred) divide_gradient();
            add_matrix_by_rows(weights.data(), I, n, of_y.data(), ld, of_rows[2].data());
            rows_by_columns<W>(rows[2].data(), ld, n, dim, of_y_columns.data(), products.data());
            of_logits(first, of_bias);
            add_matrix_by_rows(products.data(), I, n, &rows[0][first * ld], ld, of_rows[1].data());
            columns_by_matrix<W>(rows[1].data(), ld, n, dim, products.data(), result.data());
            for (int i = 0; i < I; ++i)
                for (int d = 0; d < dim; ++d) of_rows[0][(first + i) * ld + d] = result[d * I + i];
        }
        float* results[3] = {g.q, g.k, g.v};
        for (int operand = 0; operand < 3; ++operand) give(operand, results[operand] + offset);
    }

    void take_sums(double* to) {  // (4, 2)
        for (auto& sum : sums) {
            sum.flush();
            *to++ = sum.scale;
            *to++ = sum.zero;
            sum = {};
        }
    }

private:
    int64_t at(int64_t window, int head, int64_t stride) const { return window * n * stride + head * dim; }

    void take(int64_t window, int head) {
        const float* from[3] = {a.q, a.k, a.v};
        const vi last = tail_mask(dim - (ld - VL));
        for (int operand = 0; operand < 3; ++operand) {
            const Grids grid = a.grid(operand);
            const bool quantizes = a.quantizes(operand);
            const float* p = from[operand] + at(window, head, a.stride);
            for (int i = 0; i < n; ++i, p += a.stride)
                for (int d = 0; d < ld; d += VL) {
                    const bool whole = d + VL <= dim;
                    vf x = load(p + d, whole ? VL : dim - d);
                    if (operand == 0) x = rounded(x * splat(a.factor));
                    store(&raw[operand][i * ld + d], x);
                    const vf value = quantizes ? grid.value(x) : x;
                    store(&rows[operand][i * ld + d], whole ? value : (vf)((vi)value & last));
                }
        }
        for (int i = 0; i < n; ++i)
            for (int d = 0; d < dim; ++d) columns[column(i) + d * I] = rows[0][i * ld + d];
    }
    int column(int i) const { return i / I * I * dim + i % I; }  // columns are kept by I queries

    // Computes numerators, weights and divisor of queries first to first + I.
    void weigh(int64_t window, int head, int first) {
        rows_by_columns<W>(rows[1].data(), ld, n, dim, &columns[column(first)], numerators.data());
        const float* bias = a.bias + int64_t(head) * n * n + first;
        const float* mask = a.mask ? a.mask + window % a.masks * n * n + first : nullptr;
        vf largest[W], sum[W] = {};
        for (int w = 0; w < W; ++w) largest[w] = splat(-std::numeric_limits<float>::infinity());
        each([&](int j, int w, int p) {
            vf logit = load(&numerators[p]) + load(bias + j * n + w * VL);
            if (mask) logit += load(mask + j * n + w * VL);
            store(&numerators[p], logit);
            largest[w] = larger(logit, largest[w]);
        });
        each([&](int, int w, int p) {
            const vf x = load(&numerators[p]) - largest[w];
            const vf e = x == x ? exp_negative(x) : x;
            store(&numerators[p], e);
            if (!a.deferred) sum[w] += e;
        });
        if (!a.deferred)
            each([&](int, int w, int p) { store(&numerators[p], load(&numerators[p]) / sum[w]); });
        const Grids grid = a.grid(3);
        const bool quantizes = a.quantizes(3);
        vf total[W] = {};
        each([&](int, int w, int p) {
            const vf weight = quantizes ? grid.value(load(&numerators[p])) : load(&numerators[p]);
            store(&weights[p], weight);
            total[w] += weight;
        });
        for (int w = 0; w < W; ++w) {
            divisor[w] = larger(splat(a.least), total[w]);  // NaN stays
            passes[w] = total[w] >= splat(a.least) ? splat(1.0f) : vf{};
        }
    }

    void divide_gradient() {
        for (int d = 0; d < dim; ++d)
            for (int w = 0; w < W; ++w) {
                float* p = &of_y_columns[(d * W + w) * VL];
                store(p, load(p) / divisor[w]);
            }
        for (int i = 0; i < I; ++i)
            for (int d = 0; d < dim; ++d) of_y[i * ld + d] = of_y_columns[d * I + i];
    }

    // Turns `products`, the gradients of the weights but for that of the divisor, into those of the logits.
    void of_logits(int first, float* of_bias) {
        const Grids grid = a.grid(3);
        vf total[W] = {}, of_scale{}, of_zero{};
        if (a.deferred) {
            each([&](int, int w, int p) { total[w] += load(&weights[p]) * load(&products[p]); });
            for (int w = 0; w < W; ++w) total[w] = total[w] / divisor[w] * passes[w];
        }
        vf sum[W] = {};
        each([&](int, int w, int p) {
            const vf e = load(&numerators[p]);
            const vf of_e = grid.gradient(e, load(&products[p]) - total[w], ~vi{}, of_scale, of_zero);
            store(&products[p], of_e * e);
            sum[w] += of_e * e;
        });
        sums[3].add(of_scale, of_zero);
        each([&](int j, int w, int p) {
            vf of_logit = load(&products[p]);
            if (!a.deferred) {
                of_logit -= load(&numerators[p]) * sum[w];
                store(&products[p], of_logit);
            }
            if (!of_bias) return;
            float* to = of_bias + j * n + first + w * VL;
            store(to, load(to) + of_logit);
        });
    }

    // Writes the gradient of an operand, (tokens, dim) in rows of all heads, from that of its quantized values.
    void give(int operand, float* to) {
        const Grids grid = a.grid(operand);
        vf of_scale{}, of_zero{};
        for (int i = 0; i < n; ++i, to += a.heads * dim)
            for (int d = 0; d < ld; d += VL) {
                const vf gradient = load(&of_rows[operand][i * ld + d]);  // 0 beyond dim
                vf of_x = grid.gradient(load(&raw[operand][i * ld + d]), gradient, ~vi{}, of_scale, of_zero);
                if (operand == 0) of_x *= splat(a.factor);
                store(to + d, of_x, d + VL <= dim ? VL : dim - d);
            }
        sums[operand].add(of_scale, of_zero);
    }

    template <class F>
    void each(F f) const {  // calls f(key, vector, place) for the vectors of the queries at work
        for (int j = 0; j < n; ++j)
            for (int w = 0; w < W; ++w) f(j, w, (j * W + w) * VL);
    }
};

// Calls f<W>(unit's head, first and last window) for units [begin, end).
template <int W, class F>
inline void each_unit(const FakeAttention& a, int64_t begin, int64_t end, F f) {
    FakeHead<W> head(a);
    for (int64_t u = begin; u < end; ++u) {
        const int64_t first = u / a.heads * a.group();
        f(head, u, int(u % a.heads), first, std::min(a.windows, first + a.group()));
    }
}

template <int W>
inline void fake_attention_weights(const FakeAttention& a, float* out, int64_t begin, int64_t end) {
    const int64_t size = int64_t(a.tokens) * a.tokens;
    each_unit<W>(a, begin, end, [&](auto& head, int64_t, int h, int64_t first, int64_t last) {
        for (int64_t w = first; w < last; ++w) head.show_weights(w, h, out + (w * a.heads + h) * size);
    });
}

template <int W>
inline void fake_attention(const FakeAttention& a, float* y, int64_t begin, int64_t end) {
    each_unit<W>(a, begin, end, [&](auto& head, int64_t, int h, int64_t first, int64_t last) {
        for (int64_t w = first; w < last; ++w) head.forward(w, h, y);
    });
}

template <int W>
inline void fake_attention_gradient(const FakeAttention& a, const AttentionGradients& g, int64_t begin, int64_t end) {
    const int64_t size = int64_t(a.tokens) * a.tokens;
    each_unit<W>(a, begin, end, [&](auto& head, int64_t unit, int h, int64_t first, int64_t last) {
        float* of_bias = g.bias ? g.bias + unit * size : nullptr;
        if (of_bias) std::fill(of_bias, of_bias + size, 0.0f);
        for (int64_t w = first; w < last; ++w) head.backward(w, h, g, of_bias);
        head.take_sums(g.grids + unit * 2 * FakeAttention::OPERANDS);
    });
}

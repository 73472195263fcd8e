// SwinIR's window attention and its whole block on codes, one window at a time, so that all data stays in the cache.
#pragma once

#include "products.h"

struct Attention {
    const Linear *qkv, *proj;
    int heads, dim, tokens;
    float scale;
    Buffer<float> transform;  // (dim, dim padded), empty for the identity
    Buffer<float> bias;       // (heads, tokens, tokens padded); the padding is -1e30, so that its softmax is 0
    Grid q, k, v, attn;
    bool deferred;  // quantize the numerator of the softmax, divide by its sum after the product

    Attention(const Linear* qkv, const Linear* proj, int heads, int tokens, float scale, const float* matrix,
              const float* position_bias, const Grid* grids, bool deferred)
        : qkv(qkv), proj(proj), heads(heads), dim(qkv->n / heads), tokens(tokens), scale(scale),
          bias(size_t(heads) * padded(tokens, ROWS) * padded(tokens), -1e30f), q(grids[0]), k(grids[1]), v(grids[2]),
          attn(grids[3]), deferred(deferred) {
        if (matrix) transform = padded_rows(matrix, dim, dim);
        for (int h = 0; h < heads; ++h)
            for (int i = 0; i < tokens; ++i)
                std::memcpy(bias_row(h, i), position_bias + (size_t(h) * tokens + i) * tokens, 4 * tokens);
    }

    float* bias_row(int head, int i) { return &bias[(size_t(head) * rows() + i) * padded(tokens)]; }
    const float* bias_row(int head, int i) const { return &bias[(size_t(head) * rows() + i) * padded(tokens)]; }
    int rows() const { return padded(tokens, ROWS); }
    int channels() const { return heads * dim; }

    struct Space {
        Linear::Space qkv, proj;
        Buffer<float> projected, head, logits, columns, sums, joined;
        Buffer<code_t> q_codes, attn_codes;
        Packed keys, values;
        Space(const Attention& a)
            : qkv(*a.qkv, a.rows()), proj(*a.proj, a.rows()), projected(size_t(a.rows()) * (a.qkv->width() + VL)),
              head(size_t(a.rows()) * padded(a.dim)), logits(size_t(a.rows()) * padded(a.tokens)),
              columns(padded(a.tokens)), sums(a.rows()), joined(size_t(a.rows()) * a.joined_width()),
              q_codes(size_t(a.rows()) * padded(a.dim)), attn_codes(size_t(a.rows()) * padded(a.tokens)),
              keys(a.tokens, a.dim),
              values(a.dim, a.tokens) {}
    };
    int joined_width() const { return padded(channels()) + VL; }  // room for the last head's padding

    // Maps x (rows(), ldx) to out (rows(), ldo); mask (tokens, padded(tokens)) or null. Returns false if an operand
    // contains NaN.
    bool run(const float* x, int ldx, const float* mask, float* out, int ldo, Space& s) const {
        const int ldp = qkv->width() + VL, part = padded(channels());
        qkv->run(x, ldx, rows(), s.projected.data(), ldp, s.qkv);
        for (int r = 0; r < rows(); ++r)
            for (int i = 0; i < part; i += VL) {
                float* p = &s.projected[r * ldp + i];
                store(p, load(p) * splat(scale));
            }
        bool good = true;
        for (int h = 0; h < heads; ++h) {
            const float* base = &s.projected[h * dim];
            good &= quantize_queries(base, ldp, s);
            good &= quantize_keys(base + part, ldp, s);
            good &= quantize_values(base + 2 * part, ldp, s);
            attend(h, mask, s);
        }
        proj->run(s.joined.data(), joined_width(), rows(), out, ldo, s.proj);
        return good;
    }

  private:
    const float* transformed(const float* x, int& ldx, Space& s) const {
        if (transform.empty()) return x;
        multiply(x, ldx, rows(), transform.data(), dim, dim, s.head.data(), padded(dim));
        ldx = padded(dim);
        return s.head.data();
    }

    bool quantize_queries(const float* x, int ldx, Space& s) const {
        x = transformed(x, ldx, s);
        quantize_rows(x, ldx, rows(), dim, q, s.q_codes.data(), padded(dim), s.sums.data());
        float total = 0;
        for (int r = 0; r < tokens; ++r) total += s.sums[r];
        return total == total;
    }

    bool quantize_keys(const float* x, int ldx, Space& s) const {
        x = transformed(x, ldx, s);
        return s.keys.take_rows(x, ldx, {k, false}, true);
    }

    bool quantize_values(const float* x, int ldx, Space& s) const {
        return s.values.take_columns(x, ldx, {v, false}, true);
    }

    // Computes q k^T, bias, softmax, codes of the attention, and the product with v. Omits terms that are constant
    // along a row of logits (the sum of its q codes times the zero point of k), because softmax ignores them.
    void attend(int head, const float* mask, Space& s) const {
        const int ldt = padded(tokens);
        for (int j = 0; j < ldt; j += VL)
            store(&s.columns[j], splat(k.scale * q.zero) *
                                     __builtin_convertvector(s.keys.sums(j), vf));
        const vf step = splat(q.scale * k.scale);
        product(s.q_codes.data(), padded(dim), rows(), s.keys.lanes.data(), dim, tokens, [&](int r, int j, vi acc) {
            vf logit = step * __builtin_convertvector(acc, vf) + load(&s.columns[j]) + load(bias_row(head, r) + j);
            store(&s.logits[r * ldt + j], mask ? logit + load(mask + r * ldt + j) : logit);
        });
        softmax(s.logits.data());
        quantize_rows(s.logits.data(), ldt, rows(), tokens, attn, s.attn_codes.data(), ldt, s.sums.data());
        const float zero = v.zero + v.scale * middle(v);
        for (int d = 0; d < dim; d += VL) {
            vf sums = __builtin_convertvector(s.values.sums(d), vf);
            store(&s.head[d], splat(attn.zero * v.scale) * sums + splat(tokens * attn.zero * zero));
        }
        const vf product_step = splat(attn.scale * v.scale);
        product(s.attn_codes.data(), ldt, rows(), s.values.lanes.data(), tokens, dim, [&](int r, int d, vi acc) {
            vf rest = splat(attn.scale * zero * s.sums[r]) + load(&s.head[d]);
            vf result = product_step * __builtin_convertvector(acc, vf) + rest;
            if (deferred) result *= splat(row_share(attn, s.sums[r], tokens));
            store(&s.joined[r * joined_width() + head * dim + d], result);
        });
    }

    void softmax(float* row) const {
        Timed timed(SOFTMAX);
        const int ld = padded(tokens);
        for (int r = 0; r < rows(); ++r, row += ld) {
            vf top = load(row), total{};
            for (int j = VL; j < ld; j += VL) top = larger(load(row + j), top);
            top = splat(maximum(top));
            for (int j = 0; j < ld; j += VL) {
                vf e = exp_negative(load(row + j) - top);
                store(row + j, e);
                total += e;
            }
            if (deferred) continue;
            vf share = splat(1.0f / sum(total));
            for (int j = 0; j < ld; j += VL) store(row + j, load(row + j) * share);
        }
    }
};

struct Norm {  // LayerNorm
    int n;
    float epsilon;
    Buffer<float> weight, bias;
    Norm(int n, float epsilon, const float* weight, const float* bias)
        : n(n), epsilon(epsilon), weight(padded_rows(weight, 1, n)), bias(padded_rows(bias, 1, n)) {}

    // Maps x (rows, ld) to out (rows, ld); both are zero beyond n.
    void run(const float* x, int rows, int ld, float* out) const {
        Timed timed(NORM);
        const vi mask = tail_mask(n - (padded(n) - VL));
        for (int r = 0; r < rows; ++r, x += ld, out += ld) {
            vf total{}, square{};
            for (int i = 0; i < padded(n); i += VL) total += load(x + i);
            const vf mean = splat(sum(total) / n);
            for (int i = 0; i < padded(n); i += VL) {
                vf d = load(x + i) - mean;
                if (i + VL > n) d = (vf)((vi)d & mask);
                square += d * d;
            }
            const vf inverse = splat(1.0f / std::sqrt(sum(square) / n + epsilon));
            for (int i = 0; i < padded(n); i += VL)
                store(out + i, (load(x + i) - mean) * inverse * load(&weight[i]) + load(&bias[i]));
        }
    }
};

// x + attention(norm1(x)), then x + fc2(gelu(fc1(norm2(x)))), for the windows of a cyclically shifted image.
struct Block {
    const Attention* attention;
    const Linear *fc1, *fc2;
    Norm norm1, norm2;
    int window, shift;

    int channels() const { return attention->channels(); }

    struct Space {
        Attention::Space attention;
        Linear::Space fc1, fc2;
        Buffer<float> x, normed, result, hidden, mask;
        std::vector<int> rows, labels;
        Space(const Block& b)
            : attention(*b.attention), fc1(*b.fc1, b.attention->rows()), fc2(*b.fc2, b.attention->rows()),
              x(size_t(b.attention->rows()) * padded(b.channels())), normed(x.size()), result(x.size()),
              hidden(size_t(b.attention->rows()) * padded(b.fc1->n)),
              mask(size_t(b.attention->rows()) * padded(b.attention->tokens)), rows(b.attention->tokens),
              labels(b.attention->tokens) {}
    };

    // Computes window number `index` of an image x (height, width, channels) into the same positions of out.
    void run(const float* x, float* out, int height, int width, int index, Space& s) const {
        const int c = channels(), ld = padded(c), tokens = attention->tokens, rows = attention->rows();
        const float* mask = place(height, width, index, s) ? s.mask.data() : nullptr;
        for (int t = 0; t < tokens; ++t) std::memcpy(&s.x[t * ld], x + size_t(s.rows[t]) * c, 4 * c);
        norm1.run(s.x.data(), rows, ld, s.normed.data());
        if (!attention->run(s.normed.data(), ld, mask, s.result.data(), ld, s.attention)) {
            for (int t = 0; t < tokens; ++t)  // NaN spreads to the whole window through k and v
                for (int i = 0; i < c; ++i) out[size_t(s.rows[t]) * c + i] = std::numeric_limits<float>::quiet_NaN();
            return;
        }
        add(s);
        norm2.run(s.x.data(), rows, ld, s.normed.data());
        fc1->run(s.normed.data(), ld, rows, s.hidden.data(), padded(fc1->n), s.fc1);
        activate(s);
        fc2->run(s.hidden.data(), padded(fc1->n), rows, s.result.data(), ld, s.fc2);
        add(s);
        for (int t = 0; t < tokens; ++t) std::memcpy(out + size_t(s.rows[t]) * c, &s.x[t * ld], 4 * c);
    }

  private:
    static void activate(Space& s) {
        Timed timed(GELU);
        for (size_t i = 0; i < s.hidden.size(); i += VL) store(&s.hidden[i], gelu(load(&s.hidden[i])));
    }

    static void add(Space& s) {
        for (size_t i = 0; i < s.x.size(); i += VL) store(&s.x[i], load(&s.x[i]) + load(&s.result[i]));
    }

    // Finds the rows of x that belong to a window. Returns true and fills the mask if the window needs one (as in
    // SwinIR, -100 between tokens from different regions that only the cyclic shift made neighbours).
    bool place(int height, int width, int index, Space& s) const {
        const int top = index / (width / window) * window, left = index % (width / window) * window;
        auto region = [&](int p, int size) { return p < size - window ? 0 : p < size - shift ? 1 : 2; };
        bool mixed = false;
        for (int i = 0; i < window; ++i)
            for (int j = 0; j < window; ++j) {
                const int t = i * window + j;
                s.rows[t] = (top + i + shift) % height * width + (left + j + shift) % width;
                s.labels[t] = shift ? 3 * region(top + i, height) + region(left + j, width) : 0;
                mixed |= s.labels[t] != s.labels[0];
            }
        if (mixed)
            for (int i = 0; i < attention->tokens; ++i)
                for (int j = 0; j < attention->tokens; ++j)
                    s.mask[i * padded(attention->tokens) + j] = s.labels[i] == s.labels[j] ? 0.0f : -100.0f;
        return mixed;
    }
};

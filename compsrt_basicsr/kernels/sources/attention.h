// SwinIR's window attention on codes, one window at a time, so that all data stays in the cache.
#pragma once

#include "linear.h"

// Returns 1 / (sum of a row of quantized weights), given the sum of its k codes; 0.1 is LEAST_SUM in Python.
inline vf row_share(const Grid& grid, vf codes, int k) {
    return splat(1.0f) / larger(splat(0.1f), splat(grid.scale) * codes + splat(grid.zero * k));
}

struct Attention {
    const Linear *qkv, *proj;
    int heads, dim, tokens, strips;
    float scale;
    Transform transform;  // of q and k
    Buffer<float> bias;   // (heads, strips, tokens, STRIP): of each key, those of the queries of a strip
    Grid q, k, v, attn;
    bool deferred;  // quantize the numerator of the softmax, divide by its sum after the product

    Attention(const Linear* qkv, const Linear* proj, int heads, int tokens, float scale, const float* matrix,
              const float* position_bias, const Grid* grids, bool deferred)
        : qkv(qkv), proj(proj), heads(heads), dim(qkv->n / heads), tokens(tokens), strips(strips_of(tokens)),
          scale(scale), transform(matrix, dim), bias(size_t(heads) * strips * tokens * STRIP), q(grids[0]),
          k(grids[1]), v(grids[2]), attn(grids[3]), deferred(deferred) {
        for (int h = 0; h < heads; ++h, position_bias += size_t(tokens) * tokens)
            take_rows(position_bias, &bias[size_t(h) * strips * tokens * STRIP]);
    }

    int channels() const { return heads * dim; }

    // Copies a matrix (queries, keys) to (strips, keys, STRIP).
    void take_rows(const float* matrix, float* out) const {
        to_strips([&](int t) { return matrix + size_t(t) * tokens; }, tokens, tokens, out);
    }

    struct Space {
        Linear::Space qkv, proj;
        Buffer<float> projected, tokens, joined, head, tables, logits, columns, constants;
        Buffer<int32_t> queries, keys, weights, values;
        Space(const Attention& a)
            : qkv(*a.qkv, a.strips), proj(*a.proj, a.strips), projected(size_t(a.strips) * a.qkv->width() * STRIP),
              tokens(size_t(a.tokens) * a.padded_channels()), joined(size_t(a.strips) * a.channels() * STRIP), head(size_t(a.dim) * STRIP), tables(a.transform.space()),
              logits(size_t(a.tokens) * STRIP), columns(a.padded_tokens()),
              constants(a.padded_channels()),
              queries(size_t(groups_of(a.dim)) * STRIP), keys(size_t(groups_of(a.dim)) * a.padded_tokens()),
              weights(size_t(groups_of(a.tokens)) * STRIP), values(size_t(groups_of(a.tokens)) * a.padded_channels()) {}
    };
    int padded_channels() const { return padded(channels()); }
    int padded_tokens() const { return strips * STRIP; }

    // Maps x (strips, channels, STRIP) to out likewise; the mask (strips, tokens, STRIP) may be null. Returns false if
    // an operand contains NaN.
    bool run(const float* x, const float* mask, float* out, Space& s) const {
        qkv->run(x, strips, s.projected.data(), s.qkv);
        bool good = take_values(s);
        for (int h = 0; h < heads; ++h) {
            good &= take_keys(h, s);
            for (int strip = 0; strip < strips; ++strip) {
                good &= take_queries(h, strip, s);
                attend(h, strip, mask, s);
            }
        }
        proj->run(s.joined.data(), strips, out, s.proj);
        return good;
    }

  private:
    const float* operand(int part, int head, int strip, Space& s) const {
        return &s.projected[(size_t(strip) * 3 * channels() + part * channels() + head * dim) * STRIP];
    }
    const float* transformed(const float* x, Space& s) const {
        if (transform.empty()) return x;
        transform.run(x, s.head.data(), s.tables.data());
        return s.head.data();
    }
    static bool is_good(vf sums) { return !any(sums != sums); }

    bool take_queries(int head, int strip, Space& s) const {
        const float* x = transformed(operand(0, head, strip, s), s);
        Timed timed(QUANTIZE);
        const Steps steps(q, scale * transform.factor);
        bool good = true;
        for (int t = 0; t < STRIP; t += VL)
            good &= is_good(quantize_channels<false>(x + t, dim, steps, 0, &s.queries[t], STRIP));
        return good;
    }

    bool take_keys(int head, Space& s) const {
        const Steps steps(k, transform.factor);
        const float centre = float(dim * middle(k));
        bool good = true;
        for (int strip = 0; strip < strips; ++strip) {
            const float* x = transformed(operand(1, head, strip, s), s);
            Timed timed(QUANTIZE);
            for (int t = 0; t < STRIP; t += VL) {
                const int at = strip * STRIP + t;
                const vf sums = quantize_channels<false>(x + t, dim, steps, middle(k), &s.keys[at], padded_tokens());
                store(&s.columns[at], splat(k.scale * q.zero) * (sums - splat(centre)));
                good &= is_good(sums);
            }
        }
        return good;
    }

    // Packs the codes of v with 4 tokens to a lane: (groups of tokens, channels).
    bool take_values(Space& s) const {
        const int c = channels(), ld = padded_channels();
        for (int strip = 0; strip < strips; ++strip) {
            const int count = tokens - strip * STRIP < STRIP ? tokens - strip * STRIP : STRIP;
            from_strips(&s.projected[size_t(strip) * 3 * c * STRIP], count, {3 * c, 2 * c, c},
                        [&](int t) { return &s.tokens[size_t(strip * STRIP + t) * ld]; });
        }
        Timed timed(QUANTIZE);
        const Steps steps(v);
        const float zero = v.zero + v.scale * middle(v);
        bool good = true;
        for (int i = 0; i < c; i += VL) {
            const float* x = &s.tokens[i];
            const vf sums = code_channels(tokens, steps.top, middle(v), &s.values[i], ld, [=](int t, auto& of) INLINED {
                for (vf& each : of) each = steps.position(load(x + t++ * ld));
            }).sum;
            const vf centred = sums - splat(float(tokens) * middle(v));
            store(&s.constants[i], splat(attn.zero * v.scale) * centred + splat(tokens * attn.zero * zero));
            good &= !any((sums != sums) & tail_mask(c - i));
        }
        return good;
    }

    // Computes q k^T, bias, softmax, codes of the attention, and the product with v, for the queries of a strip. Omits
    // terms that are constant for a query (the sum of its codes times the zero point of k), because softmax ignores them.
    void attend(int head, int strip, const float* mask, Space& s) const {
        const float* own_bias = &bias[(size_t(head) * strips + strip) * tokens * STRIP];
        if (mask) mask += size_t(strip) * tokens * STRIP;
        const vf step = splat(q.scale * k.scale);
        const float* columns = s.columns.data();
        float* logits = s.logits.data();
        vf largest[V];
        for (vf& each : largest) each = splat(-std::numeric_limits<float>::infinity());
        const Factor keys{s.keys.data(), tokens, dim, padded_tokens(), short_groups_of(int(q.top), middle(k))};
        product(s.queries.data(), 1, keys, [&](int, int j, int t, vi acc) INLINED {
            vf logit = step * __builtin_convertvector(acc, vf) + (load(own_bias + j * STRIP + t) + splat(columns[j]));
            if (mask) logit += load(mask + j * STRIP + t);
            store(logits + j * STRIP + t, logit);
            largest[t / VL] = larger(logit, largest[t / VL]);
        });
        vf sums[V];
        softmax(largest, sums, s);
        const float zero = v.zero + v.scale * middle(v);
        vf rest[V], share[V];
        for (int i = 0; i < V; ++i) {
            rest[i] = splat(attn.scale * zero) * sums[i];
            share[i] = deferred ? row_share(attn, sums[i], tokens) : splat(1.0f);
        }
        const vf product_step = splat(attn.scale * v.scale);
        const Factor values{&s.values[head * dim], dim, tokens, padded_channels(),
                            short_groups_of(int(attn.top), middle(v))};
        const float* constants = &s.constants[head * dim];
        float* out = &s.joined[(size_t(strip) * channels() + head * dim) * STRIP];
        product(s.weights.data(), 1, values, [&](int, int d, int t, vi acc) INLINED {
            const vf result = product_step * __builtin_convertvector(acc, vf) + (rest[t / VL] + splat(constants[d]));
            store(out + d * STRIP + t, result * share[t / VL]);
        });
    }

    // Writes the codes of the softmax of the logits, or of its numerator.
    void softmax(const vf* largest, vf* sums, Space& s) const {
        Timed timed(SOFTMAX);
        const Steps steps(attn);
        for (int i = 0; i < V; ++i) {
            const vf most = largest[i];
            float* logits = &s.logits[i * VL];
            int32_t* lanes = &s.weights[i * VL];
            vf total{};
            const auto numerators = [=](int j, auto& of) INLINED {
                for (vf& each : of) each = load(logits + j++ * STRIP) - most;
                exp_negative(of);
            };
            if (deferred) {
                sums[i] = code_channels(tokens, steps.top, 0, lanes, STRIP, [=](int j, auto& of) INLINED {
                    numerators(j, of);
                    for (vf& each : of) each = steps.position(each);
                }).sum;
                continue;
            }
            for (int j = 0; j < tokens; ++j) {
                vf one[1];
                numerators(j, one);
                store(logits + j * STRIP, one[0]);
                total += one[0];
            }
            const vf share = splat(1.0f) / total;
            sums[i] = code_channels(tokens, steps.top, 0, lanes, STRIP, [=](int j, auto& of) INLINED {
                for (vf& each : of) each = steps.position(load(logits + j++ * STRIP) * share);
            }).sum;
        }
    }
};

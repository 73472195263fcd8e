// A linear layer on codes: equalize, transform, quantize, integer product, rescale.
#pragma once

#include "quantize.h"
#include "transform.h"

// For each of `parts` quantizers of x, with codes q of x and w of the weight:
//     one grid for all of x:    y = a[n] (sum q w) + b[n] (sum q) + c[n],  bias unused
//     a grid (s, Z) per token:  y = s (a[n] (sum q w) + b[n] (sum q)) + Z c[n] + bias[n]
// Before its transform, x becomes (x - shift) / stretch.
struct Linear {
    struct Part {
        Side side;
        Buffer<int32_t> weights;
        Buffer<float> a, b, c, bias;
        int short_groups;
    };

    int k, n, parts;
    Buffer<float> shift, stretch;  // empty if x is not equalized; before a transform, `stretch` is its inverse
    bool vectors = false;          // whether a part has a grid for each token
    Transform transform;
    std::vector<Part> part;

    // `equalization` has shift and stretch, (2, k), or is null; `tables` are a, b, c and bias, (4, parts, n).
    Linear(int k, int n, int parts, const float* equalization, const float* matrix, const int8_t* codes,
           const float* tables, const Side* sides)
        : k(k), n(n), parts(parts), transform(matrix, k) {
        if (equalization) shift = copied(equalization, k), stretch = copied(equalization + k, k);
        if (!transform.empty())
            for (float& each : stretch) each = 1.0f / each;
        for (int p = 0; p < parts; ++p, codes += size_t(n) * k) {
            const auto table = [&](int i) { return copied(tables + (size_t(i) * parts + p) * n, n); };
            vectors |= sides[p].vectors != 0;
            const int largest = largest_magnitude(codes, size_t(n) * k);
            part.push_back({sides[p], pack(codes, n, k), table(0), table(1), table(2), table(3),
                            short_groups_of(int(sides[p].grid.top), largest)});
        }
    }

    int width() const { return parts * n; }  // channels of the output; part p begins at channel p * n

    struct Space {  // temporary memory for some strips
        Buffer<float> equalized, transformed, tables;
        Buffer<float> sums, scales, zeros, smallest, largest;
        Buffer<int32_t> codes;
        Space(const Linear& layer, int strips)
            : equalized(layer.shift.empty() ? 0 : size_t(strips) * layer.k * STRIP),
              transformed(layer.transform.empty() ? 0 : size_t(strips) * layer.k * STRIP),
              tables(layer.transform.space()), sums(size_t(strips) * STRIP), scales(sums.size()), zeros(sums.size()),
              smallest(sums.size()), largest(sums.size()),
              codes(size_t(strips) * groups_of(layer.k) * STRIP) {}
    };

    // Maps x (strips, k, STRIP) to out (strips, width(), STRIP).
    void run(const float* x, int strips, float* out, Space& space) const {
        const size_t size = size_t(k) * STRIP;
        if (!shift.empty()) {
            equalize(x, strips, space.equalized.data());
            x = space.equalized.data();
        }
        if (!transform.empty()) {
            for (int s = 0; s < strips; ++s)
                transform.run(x + s * size, &space.transformed[s * size], space.tables.data());
            x = space.transformed.data();
        }
        if (vectors) find_ends(x, strips, space);
        for (int p = 0; p < parts; ++p) {
            if (transform.empty()) quantize<true>(part[p].side, x, strips, space);
            else quantize<false>(part[p].side, x, strips, space);
            part[p].side.vectors ? multiply_by_tokens(p, strips, out, space) : multiply(p, strips, out, space);
        }
    }

  private:
    void equalize(const float* x, int strips, float* out) const {
        Timed timed(QUANTIZE);
        const bool exact = transform.empty();
        for (int s = 0; s < strips; ++s)
            for (int i = 0; i < k; ++i)
                for (int v = 0; v < V; ++v, x += VL, out += VL) {
                    const vf shifted = load(x) - splat(shift[i]);
                    store(out, exact ? shifted / splat(stretch[i]) : shifted * splat(stretch[i]));
                }
    }

    void find_ends(const float* x, int strips, Space& space) const {
        Timed timed(QUANTIZE);
        for (int s = 0; s < strips; ++s, x += k * STRIP)
            for (int v = 0; v < STRIP; v += VL) {
                const Ends ends(x + v, k);
                store(&space.smallest[s * STRIP + v], ends.smallest);
                store(&space.largest[s * STRIP + v], ends.largest);
            }
    }

    template <bool EXACT>
    void quantize(const Side& side, const float* x, int strips, Space& space) const {
        Timed timed(QUANTIZE);
        Steps steps(side.grid, transform.factor);
        int32_t* codes = space.codes.data();
        for (int s = 0; s < strips; ++s, x += k * STRIP, codes += groups_of(k) * STRIP)
            for (int v = 0; v < STRIP; v += VL) {
                if (side.vectors) {
                    const int at = s * STRIP + v;
                    steps = Steps(side, load(&space.smallest[at]), load(&space.largest[at]), transform.factor);
                    store(&space.scales[at], steps.scale);
                    store(&space.zeros[at], steps.zero);
                }
                store(&space.sums[s * STRIP + v], quantize_channels<EXACT>(x + v, k, steps, 0, codes + v, STRIP));
            }
    }

    Factor factor(const Part& p) const { return {p.weights.data(), n, k, 0, p.short_groups}; }

    void multiply(int p, int strips, float* out, const Space& space) const {
        const float *a = part[p].a.data(), *b = part[p].b.data(), *c = part[p].c.data(), *sums = space.sums.data();
        const size_t step = size_t(width()) * STRIP;
        out += size_t(p) * n * STRIP;
        product(space.codes.data(), strips, factor(part[p]), [=](int s, int row, int t, vi acc) INLINED {
            const vf rest = splat(b[row]) * load(sums + s * STRIP + t) + splat(c[row]);
            store(out + s * step + row * STRIP + t, splat(a[row]) * __builtin_convertvector(acc, vf) + rest);
        });
    }

    void multiply_by_tokens(int p, int strips, float* out, const Space& space) const {
        const float *a = part[p].a.data(), *b = part[p].b.data(), *c = part[p].c.data(), *bias = part[p].bias.data(),
                    *sums = space.sums.data(), *scales = space.scales.data(), *zeros = space.zeros.data();
        const size_t step = size_t(width()) * STRIP;
        out += size_t(p) * n * STRIP;
        product(space.codes.data(), strips, factor(part[p]), [=](int s, int row, int t, vi acc) INLINED {
            const int at = s * STRIP + t;
            const vf inner = splat(a[row]) * __builtin_convertvector(acc, vf) + splat(b[row]) * load(sums + at);
            const vf rest = load(zeros + at) * splat(c[row]) + splat(bias[row]);
            store(out + s * step + row * STRIP + t, load(scales + at) * inner + rest);
        });
    }
};

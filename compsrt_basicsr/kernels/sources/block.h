// SwinIR's whole block on codes, one window at a time.
#pragma once

#include "attention.h"

struct Norm {  // LayerNorm
    int n;
    float epsilon;
    Buffer<float> weight, bias;
    Norm(int n, float epsilon, const float* weight, const float* bias)
        : n(n), epsilon(epsilon), weight(copied(weight, n)), bias(copied(bias, n)) {}

    // Maps x (strips, n, STRIP) to out likewise.
    void run(const float* x, int strips, float* out) const {
        Timed timed(NORM);
        const vf share = splat(1.0f / n);
        for (int s = 0; s < strips; ++s, x += n * STRIP, out += n * STRIP) {
            vf mean[V] = {}, inverse[V] = {};
            for (int i = 0; i < n; ++i)
                for (int v = 0; v < V; ++v) mean[v] += load(x + i * STRIP + v * VL);
            for (vf& each : mean) each *= share;
            for (int i = 0; i < n; ++i)
                for (int v = 0; v < V; ++v) {
                    const vf d = load(x + i * STRIP + v * VL) - mean[v];
                    inverse[v] += d * d;
                }
            for (vf& each : inverse) each = splat(1.0f) / square_root(each * share + splat(epsilon));
            for (int i = 0; i < n; ++i)
                for (int v = 0; v < V; ++v)
                    store(out + i * STRIP + v * VL, (load(x + i * STRIP + v * VL) - mean[v]) * inverse[v] *
                                                        splat(weight[i]) + splat(bias[i]));
        }
    }
};

// x + attention(norm1(x)), then x + fc2(gelu(fc1(norm2(x)))), for the windows of a cyclically shifted image.
struct Block {
    const Attention* attention;
    const Linear *fc1, *fc2;
    Norm norm1, norm2;
    int window, shift;
    static constexpr int AT_ONCE = 4;  // vectors of GELU

    int channels() const { return attention->channels(); }

    struct Space {
        Attention::Space attention;
        Linear::Space fc1, fc2;
        Buffer<float> x, normed, result, hidden, mask;
        std::vector<int> rows, labels;  // of the tokens: where they are in the image, and their region
        Space(const Block& b)
            : attention(*b.attention), fc1(*b.fc1, b.attention->strips), fc2(*b.fc2, b.attention->strips),
              x(size_t(b.attention->padded_tokens()) * b.channels()), normed(x.size()), result(x.size()),
              hidden(padded(b.attention->padded_tokens() * b.fc1->n, AT_ONCE * VL)),
              mask(size_t(b.attention->padded_tokens()) * b.attention->tokens),
              rows(b.attention->tokens), labels(b.attention->padded_tokens()) {}
    };

    // Computes window number `index` of an image x (height, width, channels) into the same positions of out.
    void run(const float* x, float* out, int height, int width, int index, Space& s) const {
        const int c = channels(), strips = attention->strips, tokens = attention->tokens;
        const float* mask = place(height, width, index, s) ? s.mask.data() : nullptr;
        const auto row = [&](auto* image) { return [&s, image, c](int t) { return image + size_t(s.rows[t]) * c; }; };
        to_strips(row(x), tokens, c, s.x.data());
        norm1.run(s.x.data(), strips, s.normed.data());
        if (!attention->run(s.normed.data(), mask, s.result.data(), s.attention)) {
            for (int t = 0; t < tokens; ++t)  // NaN spreads to the whole window through k and v
                for (int i = 0; i < c; ++i) row(out)(t)[i] = std::numeric_limits<float>::quiet_NaN();
            return;
        }
        add(s);
        norm2.run(s.x.data(), strips, s.normed.data());
        fc1->run(s.normed.data(), strips, s.hidden.data(), s.fc1);
        activate(s);
        fc2->run(s.hidden.data(), strips, s.result.data(), s.fc2);
        add(s);
        from_strips(s.x.data(), tokens, {c, 0, c}, row(out));
    }

  private:
    static void activate(Space& s) {
        Timed timed(GELU);
        for (size_t i = 0; i < s.hidden.size(); i += AT_ONCE * VL) {
            vf x[AT_ONCE];
            for (int j = 0; j < AT_ONCE; ++j) x[j] = load(&s.hidden[i + j * VL]);
            gelu(x);
            for (int j = 0; j < AT_ONCE; ++j) store(&s.hidden[i + j * VL], x[j]);
        }
    }

    static void add(Space& s) {
        for (size_t i = 0; i < s.x.size(); i += VL) store(&s.x[i], load(&s.x[i]) + load(&s.result[i]));
    }

    // Finds the rows of x that belong to a window. Returns true and fills the mask if the window needs one (as in
    // SwinIR, -100 between tokens from different regions that only the cyclic shift made neighbours).
    bool place(int height, int width, int index, Space& s) const {
        const int top = index / (width / window) * window, left = index % (width / window) * window;
        const int tokens = attention->tokens;
        auto region = [&](int p, int size) { return p < size - window ? 0 : p < size - shift ? 1 : 2; };
        bool mixed = false;
        for (int i = 0; i < window; ++i)
            for (int j = 0; j < window; ++j) {
                const int t = i * window + j;
                s.rows[t] = (top + i + shift) % height * width + (left + j + shift) % width;
                s.labels[t] = shift ? 3 * region(top + i, height) + region(left + j, width) : 0;
                mixed |= s.labels[t] != s.labels[0];
            }
        if (!mixed) return false;
        float* to = s.mask.data();
        for (int first = 0; first < tokens; first += STRIP)
            for (int j = 0; j < tokens; ++j, to += STRIP)
                for (int t = 0; t < STRIP; t += VL)
                    store(to + t, load(&s.labels[first + t]) == splat(s.labels[j]) ? vf{} : splat(-100.0f));
        return true;
    }
};

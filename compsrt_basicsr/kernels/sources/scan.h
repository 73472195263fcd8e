// The selective scan of state-space networks, forward and backward, in float32.
//   dt_l = softplus(delta_l + bias),  h_l = exp(dt_l A) h_(l-1) + dt_l u_l B_l,  y_l = sum over states of h_l C_l + D u_l
// A vector holds neighbouring channels, whose recurrences are independent, so no sum crosses lanes but those of the
// gradients of B and C.
#pragma once

#include <algorithm>

#include "strip.h"

inline void add(float* p, vf v, int lanes) { store(p, load(p, lanes) + v, lanes); }

// softplus(x) = max(x, 0) + log(1 + e^-|x|), and its derivative; relative errors below 1e-6. NaN stays NaN.
struct Softplus {
    vf value, slope;
    explicit Softplus(vf x) {
        vf t = exp_negative(-larger(x, -x));
        vf s = t / (splat(2.0f) + t), q = s * s;  // log(1 + t) = 2 artanh(t / (2 + t)), and s <= 1/3
        vf p = splat(1.0f / 15);
        for (float c : {1.0f / 13, 1.0f / 11, 1.0f / 9, 1.0f / 7, 1.0f / 5, 1.0f / 3, 1.0f}) p = p * q + splat(c);
        value = (x > vf{} ? x : vf{}) + splat(2.0f) * s * p;
        slope = (x > vf{} ? splat(1.0f) : t) / (splat(1.0f) + t);
        value = x == x ? value : x;
    }
};

struct Scan {  // all row-major: u, delta, y (batch, length, channels); a (states, channels); b, c (batch, length, states)
    const float *u, *delta, *a, *b, *c, *skip, *bias;
    int64_t length;
    int channels, states, chunk;

    int blocks() const { return padded(channels) / VL; }
    int64_t chunks() const { return (length + chunk - 1) / chunk; }
    int lanes(int block) const { return channels - block * VL < VL ? channels - block * VL : VL; }
};

struct Gradients {  // of the inputs, in their shapes; those of u and delta are written, the others are added to
    float *u, *delta, *a, *b, *c, *skip;
};

// One block of channels of one sequence. `starts` (batch, chunks, states, channels) receives the state before each
// chunk, unless it is null.
inline void scan_block(const Scan& p, int64_t batch, int block, float* y, float* starts) {
    const int S = p.states, D = p.channels, first = block * VL, n = p.lanes(block);
    Buffer<float> rates(S * VL), state(S * VL);
    vf skip = load(p.skip + first, n);
    const vf bias = load(p.bias + first, n);
    for (int s = 0; s < S; ++s) {
        vf rate = load(p.a + s * D + first, n);
        store(&rates[s * VL], rate);
        skip = rate == rate ? skip : rate;  // exp_negative does not pass NaN on
    }
    const int64_t row = batch * p.length;
    for (int64_t l = 0; l < p.length; ++l) {
        if (starts && l % p.chunk == 0)
            for (int s = 0; s < S; ++s)
                store(starts + ((batch * p.chunks() + l / p.chunk) * S + s) * D + first, load(&state[s * VL]), n);
        const int64_t at = (row + l) * D + first;
        const float *b = p.b + (row + l) * S, *c = p.c + (row + l) * S;
        const vf u = load(p.u + at, n), dt = Softplus(load(p.delta + at, n) + bias).value, input = dt * u;
        vf out = skip * u;
        for (int s = 0; s < S; ++s) {
            vf h = exp_negative(dt * load(&rates[s * VL])) * load(&state[s * VL]) + input * splat(b[s]);
            store(&state[s * VL], h);
            out += h * splat(c[s]);
        }
        store(y + at, out, n);
    }
}

// The same for the gradients of blocks [begin, end) of one sequence, chunk by chunk from the last: the states of a
// chunk are computed again from the one before it.
class ScanGradient {
    const Scan& p;
    Buffer<float> states, decays, steps, sums_b, sums_c, carried;

public:
    ScanGradient(const Scan& p, int blocks)
        : p(p), states(size_t(p.chunk + 1) * p.states * VL), decays(size_t(p.chunk) * p.states * VL),
          steps(size_t(p.chunk) * 3 * VL), sums_b(decays.size()), sums_c(decays.size()),
          carried(size_t(blocks) * p.states * VL) {}

    void run(int64_t batch, int begin, int end, const float* dy, const float* starts, const Gradients& g) {
        std::fill(carried.begin(), carried.end(), 0.0f);
        for (int64_t k = p.chunks() - 1; k >= 0; --k) {
            const int64_t first = k * p.chunk;
            const int count = int(p.length - first < p.chunk ? p.length - first : p.chunk);
            std::fill(sums_b.begin(), sums_b.end(), 0.0f);
            std::fill(sums_c.begin(), sums_c.end(), 0.0f);
            for (int block = begin; block < end; ++block) {
                recompute(batch, block, first, count, starts + (batch * p.chunks() + k) * p.states * p.channels);
                backward(batch, block, first, count, dy, &carried[size_t(block - begin) * p.states * VL], g);
            }
            const int64_t at = (batch * p.length + first) * p.states;
            for (int i = 0; i < count * p.states; ++i) {
                g.b[at + i] += sum(load(&sums_b[size_t(i) * VL]));
                g.c[at + i] += sum(load(&sums_c[size_t(i) * VL]));
            }
        }
    }

private:
    void recompute(int64_t batch, int block, int64_t first, int count, const float* start) {
        const int S = p.states, D = p.channels, channel = block * VL, n = p.lanes(block);
        const vf bias = load(p.bias + channel, n);
        for (int s = 0; s < S; ++s) store(&states[s * VL], load(start + s * D + channel, n));
        for (int t = 0; t < count; ++t) {
            const int64_t at = batch * p.length + first + t;
            const Softplus step(load(p.delta + at * D + channel, n) + bias);
            const vf u = load(p.u + at * D + channel, n), input = step.value * u;
            store(&steps[t * 3 * VL], step.value);
            store(&steps[(t * 3 + 1) * VL], step.slope);
            store(&steps[(t * 3 + 2) * VL], u);
            for (int s = 0; s < S; ++s) {
                const size_t i = (size_t(t) * S + s) * VL;
                vf decay = exp_negative(step.value * load(p.a + s * D + channel, n));
                store(&decays[i], decay);
                store(&states[i + S * VL], decay * load(&states[i]) + input * splat(p.b[at * S + s]));
            }
        }
    }

    void backward(int64_t batch, int block, int64_t first, int count, const float* dy, float* carry,
                  const Gradients& g) {
        const int S = p.states, D = p.channels, channel = block * VL, n = p.lanes(block);
        const vf skip = load(p.skip + channel, n);
        Buffer<float> rates(S * VL);
        for (int s = 0; s < S; ++s) add(&rates[s * VL], vf{}, VL);
        vf sum_skip{};
        for (int t = count - 1; t >= 0; --t) {
            const int64_t at = batch * p.length + first + t;
            const vf dt = load(&steps[t * 3 * VL]), slope = load(&steps[(t * 3 + 1) * VL]);
            const vf u = load(&steps[(t * 3 + 2) * VL]), d = load(dy + at * D + channel, n), input = dt * u;
            vf of_input{}, of_dt{};
            for (int s = 0; s < S; ++s) {
                const size_t i = (size_t(t) * S + s) * VL;
                const vf decay = load(&decays[i]), rate = load(p.a + s * D + channel, n);
                const vf gh = load(carry + s * VL) + d * splat(p.c[at * S + s]);  // gradient of h_l
                add(&sums_c[i], d * load(&states[i + S * VL]), VL);
                add(&sums_b[i], gh * input, VL);
                of_input += gh * splat(p.b[at * S + s]);
                const vf next = gh * decay, exponent = next * load(&states[i]);
                of_dt += exponent * rate;
                add(&rates[s * VL], exponent * dt, VL);
                store(carry + s * VL, next);
            }
            store(g.u + at * D + channel, skip * d + of_input * dt, n);
            store(g.delta + at * D + channel, (of_dt + of_input * u) * slope, n);
            sum_skip += d * u;
        }
        for (int s = 0; s < S; ++s) add(g.a + s * D + channel, load(&rates[s * VL]), n);
        add(g.skip + channel, sum_skip, n);
    }
};

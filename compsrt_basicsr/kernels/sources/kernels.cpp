// The functions that Python calls through ctypes. Layers are handles that are packed once and freed by their owner. A
// run computes rows or windows [begin, end), so threads can share the work; it uses no global state.
#include "block.h"
#include "convolution.h"
#include "fake_attention.h"
#include "fake_quantize.h"
#include "feedback.h"
#include "peaks.h"
#include "products.h"
#include "scan.h"
#include "tile.h"

extern "C" {

#ifdef COMPSRT_PROFILE
// Returns the seconds spent in each Part since the last call, and after them those of the clocks.
void cs_profile(double* seconds) {
    read_profile(seconds);
}
#endif

// Multiplies codes a (m, k), 0 to 255, by weights w (n, k), -128 to 127, exactly: out (m, n).
void cs_product(const uint8_t* a, const int8_t* w, int m, int n, int k, int32_t* out) {
    const int strips = strips_of(m), groups = groups_of(k);
    Buffer<int32_t> codes(size_t(strips) * groups * STRIP);
    int top = 0;
    for (int t = 0; t < m; ++t)
        for (int i = 0; i < k; ++i, ++a) {
            codes[(size_t(t / STRIP) * groups + i / 4) * STRIP + t % STRIP] |= int32_t(uint32_t(*a) << i % 4 * 8);
            top = *a > top ? *a : top;
        }
    const Buffer<int32_t> packed = pack(w, n, k);
    const Factor factor{packed.data(), n, k, 0, short_groups_of(top, largest_magnitude(w, size_t(n) * k))};
    product(codes.data(), strips, factor, [&](int s, int row, int t, vi acc) {
        for (int i = 0, token = s * STRIP + t; i < VL && token < m; ++i, ++token) out[size_t(token) * n + row] = acc[i];
    });
}

void* cs_linear_new(int k, int n, int parts, const float* equalization, const float* transform, const int8_t* weights,
                    const float* tables, const float* sides) {
    return new Linear(k, n, parts, equalization, transform, weights, tables, reinterpret_cast<const Side*>(sides));
}
void cs_linear_free(void* layer) { delete static_cast<Linear*>(layer); }

// Maps x (total, k) to out (parts, total, n), for rows [begin, end).
void cs_linear_run(const void* handle, const float* x, float* out, int64_t total, int64_t begin, int64_t end) {
    const Linear& layer = *static_cast<const Linear*>(handle);
    Tile tile(layer);
    for (int64_t first = begin; first < end; first += Tile::ROWS_MOST) {
        const int rows = int(end - first < Tile::ROWS_MOST ? end - first : Tile::ROWS_MOST);
        tile.take_rows(x + first * layer.k, rows);
        tile.run();
        tile.give_rows(out + first * layer.n, total * layer.n);
    }
}

// Maps planes x (images, k, pixels) to out (images, parts * n, pixels), for pixels [begin, end), counted over all images.
void cs_linear_run_planes(const void* handle, const float* x, float* out, int64_t pixels, int64_t begin, int64_t end) {
    const Linear& layer = *static_cast<const Linear*>(handle);
    const int channels = layer.parts * layer.n;
    Tile tile(layer);
    while (begin < end) {
        const int64_t image = begin / pixels, first = begin % pixels;
        int64_t rows = pixels - first < end - begin ? pixels - first : end - begin;
        if (rows > Tile::ROWS_MOST) rows = Tile::ROWS_MOST;
        tile.take_planes(x + image * layer.k * pixels + first, pixels, int(rows));
        tile.run();
        tile.give_planes(out + image * channels * pixels + first, pixels);
        begin += rows;
    }
}

void* cs_attention_new(const void* qkv, const void* proj, int heads, int tokens, float scale, const float* transform,
                       const float* bias, const float* grids, int deferred) {
    return new Attention(static_cast<const Linear*>(qkv), static_cast<const Linear*>(proj), heads, tokens, scale,
                         transform, bias, reinterpret_cast<const Grid*>(grids), deferred != 0);
}
void cs_attention_free(void* attention) { delete static_cast<Attention*>(attention); }

// Maps x (windows, tokens, channels) to out, for windows [begin, end); mask (mask_windows, tokens, tokens) or null.
void cs_attention_run(const void* handle, const float* x, float* out, const float* mask, int64_t mask_windows,
                      int64_t begin, int64_t end) {
    const Attention& attention = *static_cast<const Attention*>(handle);
    const int tokens = attention.tokens, c = attention.channels();
    Attention::Space space(attention);
    Buffer<float> given(size_t(attention.padded_tokens()) * c), result(given.size()),
        own_mask(size_t(attention.padded_tokens()) * tokens);
    for (int64_t w = begin; w < end; ++w) {
        to_strips([&](int t) { return x + (w * tokens + t) * c; }, tokens, c, given.data());
        if (mask) attention.take_rows(mask + w % mask_windows * tokens * tokens, own_mask.data());
        if (!attention.run(given.data(), mask ? own_mask.data() : nullptr, result.data(), space))
            for (float& value : result) value = std::numeric_limits<float>::quiet_NaN();
        from_strips(result.data(), tokens, {c, 0, c}, [&](int t) { return out + (w * tokens + t) * c; });
    }
}

void* cs_block_new(const void* attention, const void* fc1, const void* fc2, const float* norm1, const float* norm2,
                   float epsilon1, float epsilon2, int window, int shift) {
    const auto* a = static_cast<const Attention*>(attention);
    const int c = a->channels();
    return new Block{a, static_cast<const Linear*>(fc1), static_cast<const Linear*>(fc2),
                     Norm(c, epsilon1, norm1, norm1 + c), Norm(c, epsilon2, norm2, norm2 + c), window, shift};
}
void cs_block_free(void* block) { delete static_cast<Block*>(block); }

// Maps x (batch, height * width, channels) to out, for windows [begin, end), counted over the batch.
void cs_block_run(const void* handle, const float* x, float* out, int height, int width, int64_t begin, int64_t end) {
    const Block& block = *static_cast<const Block*>(handle);
    const int windows = (height / block.window) * (width / block.window);
    const int64_t image = int64_t(height) * width * block.channels();
    Block::Space space(block);
    for (int64_t w = begin; w < end; ++w)
        block.run(x + w / windows * image, out + w / windows * image, height, width, int(w % windows), space);
}

void* cs_convolution_new(int in, int out, const float* weights, const float* bias) {
    return new Convolution(in, out, weights, bias);
}
void cs_convolution_free(void* convolution) { delete static_cast<Convolution*>(convolution); }

// Maps x (batch, in, height, width) to y (batch, out, height, width), for pairs of rows [begin, end), counted over the
// batch.
void cs_convolution_run(const void* handle, const float* x, float* y, int height, int width, int64_t begin,
                        int64_t end) {
    const Convolution& convolution = *static_cast<const Convolution*>(handle);
    const int pairs = (height + 1) / 2;
    const int64_t pixels = int64_t(height) * width;
    Convolution::Space space(convolution);
    for (int64_t p = begin; p < end; ++p)
        convolution.run(x + p / pairs * convolution.in * pixels, y + p / pairs * convolution.out * pixels, height,
                        width, int(p % pairs), space);
}

// Multiplies matrices [begin, end) of two operands: left (rows, k) by n vectors of k values; out (count, rows, n) is
// dense. Strides count floats: those of the two batch dimensions, of which the second has `heads` entries, and of rows.
void cs_products_run(const float* left, const int64_t* left_strides, const float* right, const int64_t* right_strides,
                     int rows, int n, int k, int by_columns, int weights, const float* sides, int heads, float* out,
                     int64_t begin, int64_t end) {
    const Side* side = reinterpret_cast<const Side*>(sides);
    const Product product{rows, n, k, by_columns != 0, weights != 0, side[0], side[1], 1.0f};
    const Strides a{left_strides, heads}, b{right_strides, heads};
    Multiplier multiplier(product);
    for (int64_t i = begin; i < end; ++i)
        multiplier.run({left + a.at(i), a.row()}, {right + b.at(i), b.row()}, out + i * rows * n, n);
}

// Computes softmax(scale q k^T + mask) v for matrices [begin, end); the mask may be null. `strides` has the three of q,
// k, v, mask and out, one after the other; `sides` are q, k, the weights and v.
void cs_softmax_run(const float* q, const float* k, const float* v, const float* mask, const int64_t* strides,
                    int queries, int keys, int dim, int n, float scale, const float* sides, int heads, float* out,
                    int64_t begin, int64_t end) {
    const Side* side = reinterpret_cast<const Side*>(sides);
    const Product first{queries, keys, dim, false, false, side[0], side[1], scale};
    const Product second{queries, n, keys, true, true, side[2], side[3], 1.0f};
    const Strides a{strides, heads}, b{strides + 3, heads}, c{strides + 6, heads}, m{strides + 9, heads},
        o{strides + 12, heads};
    Softmax softmax(first, second);
    for (int64_t i = begin; i < end; ++i)
        softmax.run({q + a.at(i), a.row()}, {k + b.at(i), b.row()}, {v + c.at(i), c.row()},
                    {mask ? mask + m.at(i) : nullptr, m.row()}, out + o.at(i), o.row());
}

// Computes y of the selective scan for sequence and block of channels [begin, end), counted together. `starts`
// (batch, chunks, states, channels) receives what the gradient needs, unless it is null.
void cs_scan(const float* u, const float* delta, const float* a, const float* b, const float* c, const float* skip,
             const float* bias, int64_t length, int channels, int states, int chunk, float* y, float* starts,
             int64_t begin, int64_t end) {
    const Scan scan{u, delta, a, b, c, skip, bias, length, channels, states, chunk};
    for (int64_t i = begin; i < end; ++i) scan_block(scan, i / scan.blocks(), int(i % scan.blocks()), y, starts);
}

// Computes the gradients for [begin, end): those of u and delta are written, the others are added to.
void cs_scan_gradient(const float* u, const float* delta, const float* a, const float* b, const float* c,
                      const float* skip, const float* bias, int64_t length, int channels, int states, int chunk,
                      const float* dy, const float* starts, float* du, float* ddelta, float* da, float* db, float* dc,
                      float* dskip, int64_t begin, int64_t end) {
    const Scan scan{u, delta, a, b, c, skip, bias, length, channels, states, chunk};
    const Gradients gradients{du, ddelta, da, db, dc, dskip};
    const int blocks = scan.blocks();
    ScanGradient gradient(scan, blocks);
    while (begin < end) {
        const int64_t batch = begin / blocks, next = (batch + 1) * blocks < end ? (batch + 1) * blocks : end;
        gradient.run(batch, int(begin - batch * blocks), int(next - batch * blocks), dy, starts, gradients);
        begin = next;
    }
}

// Computes s and Z of `count` grids with learned bounds.
void cs_learned_grids(const float* lower, const float* upper, const float* scale_offset, const float* zero_offset,
                      const float* unit, int64_t count, float top, float floor, float* scale, float* zero) {
    learned_grids(lower, upper, scale_offset, zero_offset, unit, count, top, floor, scale, zero);
}

// Fake quantization, see Strict: the units of work, and units [begin, end) of y or of the gradients.
int64_t cs_strict_units(const Strict* strict) { return strict->units(); }
void cs_strict_run(const Strict* strict, const float* x, float* y, int64_t begin, int64_t end) {
    for (int64_t u = begin; u < end; ++u) strict->run<false>(u, x, nullptr, y, nullptr);
}
void cs_strict_gradient(const Strict* strict, const float* x, const float* dy, float* dx, double* sums, int64_t begin,
                        int64_t end) {
    for (int64_t u = begin; u < end; ++u) strict->run<true>(u, x, dy, dx, sums);
}

// Adds up the gradients of s and Z over the units of each grid.
void cs_strict_sums(const Strict* strict, const double* sums, float* of_scale, float* of_zero) {
    const int64_t units = strict->units();
    if (strict->grids > 1) {
        for (int64_t u = 0; u < units; ++u) of_scale[u] = float(sums[2 * u]), of_zero[u] = float(sums[2 * u + 1]);
        return;
    }
    double scale = 0, zero = 0;
    for (int64_t u = 0; u < units; ++u) scale += sums[2 * u], zero += sums[2 * u + 1];
    *of_scale = float(scale);
    *of_zero = float(zero);
}

// Attention with fake-quantized operands, see FakeAttention: what the quantizer of the weights receives, y, and its
// gradients, for units [begin, end).
int64_t cs_fake_attention_units(const FakeAttention* attention) { return attention->units(); }
void cs_fake_attention_weights(const FakeAttention* attention, float* out, int64_t begin, int64_t end) {
    const bool pairs = attention->tokens % (2 * VL) == 0;
    (pairs ? fake_attention_weights<2> : fake_attention_weights<1>)(*attention, out, begin, end);
}
void cs_fake_attention_run(const FakeAttention* attention, float* y, int64_t begin, int64_t end) {
    const bool pairs = attention->tokens % (2 * VL) == 0;
    (pairs ? fake_attention<2> : fake_attention<1>)(*attention, y, begin, end);
}
void cs_fake_attention_gradient(const FakeAttention* attention, const AttentionGradients* gradients, int64_t begin,
                                int64_t end) {
    const bool pairs = attention->tokens % (2 * VL) == 0;
    (pairs ? fake_attention_gradient<2> : fake_attention_gradient<1>)(*attention, *gradients, begin, end);
}

// Rounds rows [begin, end) of a weight (rows, n) with feedback, see Feedback; `left` is changed.
void cs_feedback(double* left, const double* factor, const double* scale, const double* zero, const uint8_t* keep,
                 int64_t n, int top, double* out, int64_t begin, int64_t end) {
    const Feedback feedback{factor, scale, zero, keep, n, double(top)};
    for (int64_t r = begin; r < end; ++r) feedback.row(r, left + r * n, out + r * n);
}

// Rows [begin, end) divided by their largest values, and the gradient.
void cs_peaks(const float* x, float* y, float* peaks, int64_t n, float least, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) Peaks{n, least}.row(x + r * n, y + r * n, peaks + r);
}
void cs_peaks_gradient(const float* y, const float* dy, const float* peaks, float* dx, int64_t n, int64_t begin,
                       int64_t end) {
    for (int64_t r = begin; r < end; ++r) Peaks{n, 0}.gradient(y + r * n, dy + r * n, peaks[r], dx + r * n);
}

// Multiplies codes in registers, as fast as the processor can; returns the number of multiplications.
int64_t cs_peak(int64_t rounds) {
    constexpr int SUMS = 10;  // enough to hide the latency of an instruction
    vi sums[SUMS] = {}, codes{};
    for (int64_t i = 0; i < rounds; ++i)
        for (vi& sum : sums) {
            codes = rounded(codes);  // else one product would do for all
#ifdef SHORT_SUMS
            sum = rounded((vi)short_dot((vs)sum, codes, codes));
#else
            sum = rounded(dot(sum, codes, codes));
#endif
        }
    for (const vi& sum : sums) {
        volatile vi kept = sum;  // else there would be no loop
        (void)kept;
    }
    return rounds * SUMS * VL * 4;
}

int cs_lanes() { return VL; }

}  // extern "C"

// Some rows of a linear layer's input and output, copied from and to memory of any layout.
#pragma once

#include "linear.h"

constexpr int SQUARE = 8;

// Writes the transpose of x (m, n), whose rows are `ldx` floats apart, to y (n, m); m and n are at most SQUARE.
inline void transpose(const float* x, int64_t ldx, float* y, int64_t ldy, int m, int n) {
#if LANES >= 8
    if (m == SQUARE && n == SQUARE) {
        __m256 a[8], b[8];
        for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(x + i * ldx);
        for (int i = 0; i < 8; i += 2)
            b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]), b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
        for (int i = 0; i < 8; i += 4)
            for (int j = 0; j < 2; ++j) {
                a[i + 2 * j] = _mm256_shuffle_ps(b[i + j], b[i + j + 2], 0x44);
                a[i + 2 * j + 1] = _mm256_shuffle_ps(b[i + j], b[i + j + 2], 0xee);
            }
        for (int i = 0; i < 4; ++i) {
            _mm256_storeu_ps(y + i * ldy, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
            _mm256_storeu_ps(y + (i + 4) * ldy, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
        }
        return;
    }
#endif
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < n; ++j) y[j * ldy + i] = x[i * ldx + j];
}

struct Tile {
    static constexpr int ROWS_MOST = 64;
    const Linear& layer;
    const int ldx, ldo;
    int rows = 0;
    Linear::Space space;
    Buffer<float> x, out;

    explicit Tile(const Linear& layer)
        : layer(layer), ldx(padded(layer.k)), ldo(layer.width()), space(layer, ROWS_MOST), x(size_t(ROWS_MOST) * ldx),
          out(size_t(ROWS_MOST) * ldo) {}

    void run() { layer.run(x.data(), ldx, padded(rows, ROWS), out.data(), ldo, space); }

    void take_rows(const float* from, int count) {  // (count, k)
        rows = count;
        for (int r = 0; r < rows; ++r) std::memcpy(&x[r * ldx], from + size_t(r) * layer.k, 4 * layer.k);
    }
    void give_rows(int part, float* to) const {  // (rows, n)
        for (int r = 0; r < rows; ++r)
            std::memcpy(to + size_t(r) * layer.n, &out[r * ldo + part * padded(layer.n)], 4 * layer.n);
    }

    void take_planes(const float* from, int64_t pixels, int count) {  // (k, pixels), of which `count` columns
        rows = count;
        each_square(layer.k, [&](int i, int channels, int r, int count) {
            transpose(from + i * pixels + r, pixels, &x[r * ldx + i], ldx, channels, count);
        });
    }
    void give_planes(float* to, int64_t pixels) const {  // (parts * n, pixels)
        for (int p = 0; p < layer.parts; ++p, to += layer.n * pixels)
            each_square(layer.n, [&](int i, int channels, int r, int count) {
                const float* from = &out[r * ldo + p * padded(layer.n) + i];
                transpose(from, ldo, to + i * pixels + r, pixels, count, channels);
            });
    }

  private:
    template <class F>
    void each_square(int channels, F f) const {  // calls f(channel, channels, row, rows) for squares of SQUARE
        for (int i = 0; i < channels; i += SQUARE)
            for (int r = 0; r < rows; r += SQUARE)
                f(i, channels - i < SQUARE ? channels - i : SQUARE, r, rows - r < SQUARE ? rows - r : SQUARE);
    }
};

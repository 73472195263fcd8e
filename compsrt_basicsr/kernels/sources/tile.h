// Some rows of a linear layer's input and output, copied from and to memory of any layout.
#pragma once

#include "linear.h"

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
        for (int i = 0; i < layer.k; i += VL)
            for (int r = 0; r < rows; ++r)
                for (int j = i; j < i + VL && j < layer.k; ++j) x[r * ldx + j] = from[j * pixels + r];
    }
    void give_planes(float* to, int64_t pixels) const {  // (parts * n, pixels)
        for (int p = 0; p < layer.parts; ++p, to += layer.n * pixels)
            for (int i = 0; i < layer.n; ++i)
                for (int r = 0; r < rows; ++r) to[i * pixels + r] = out[r * ldo + p * padded(layer.n) + i];
    }
};

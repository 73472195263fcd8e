// Some rows of a linear layer's input and output, copied from and to memory of any layout.
#pragma once

#include "linear.h"

struct Tile {
    static constexpr int ROWS_MOST = 64;
    const Linear& layer;
    int rows = 0;
    Linear::Space space;
    Buffer<float> x, out;

    explicit Tile(const Linear& layer)
        : layer(layer), space(layer, strips_of(ROWS_MOST)), x(size_t(ROWS_MOST) * layer.k),
          out(size_t(ROWS_MOST) * layer.width()) {}

    void run() { layer.run(x.data(), strips_of(rows), out.data(), space); }

    void take_rows(const float* from, int count) {  // (count, k)
        rows = count;
        to_strips([&](int t) { return from + size_t(t) * layer.k; }, rows, layer.k, x.data());
    }
    void give_rows(float* to, int64_t part_step) {  // (parts, rows, n)
        for (int p = 0; p < layer.parts; ++p, to += part_step)
            from_strips(out.data(), rows, {layer.width(), p * layer.n, layer.n},
                        [&](int t) { return to + size_t(t) * layer.n; });
    }

    void take_planes(const float* from, int64_t pixels, int count) {  // (k, pixels), of which `count` columns
        rows = count;
        each_piece(layer.k, [&](int64_t channel, int first, int size, float* strip) {
            std::memcpy(strip, from + channel * pixels + first, 4 * size);
        }, x.data());
    }
    void give_planes(float* to, int64_t pixels) {  // (parts * n, pixels)
        each_piece(layer.width(), [&](int64_t channel, int first, int size, const float* strip) {
            std::memcpy(to + channel * pixels + first, strip, 4 * size);
        }, out.data());
    }

  private:
    template <class F>
    void each_piece(int channels, F f, float* strips) {  // calls f(channel, first row, rows, strip)
        for (int first = 0; first < rows; first += STRIP)
            for (int c = 0; c < channels; ++c, strips += STRIP)
                f(c, first, rows - first < STRIP ? rows - first : STRIP, strips);
    }
};

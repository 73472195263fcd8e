// Convolutions of 3x3 pixels in float by Winograd's F(2x2, 3x3): 16 products for 4 pixels in place of 36.
#pragma once

#include "transform.h"

// With stride 1 and zeros around the image. A token of a strip is a tile of 2x2 pixels of the result, side by side.
struct Convolution {
    static constexpr int POINTS = 16, TILE = 4;  // elements of a transformed tile; side of the pixels it depends on
    int in, out;
    std::vector<Buffer<float>> weights;  // of each point, panels of (out, in)
    Buffer<float> bias;

    // `transformed` are the weights G w G^T, (16, out, in).
    Convolution(int in, int out, const float* transformed, const float* bias)
        : in(in), out(out), bias(copied(bias, out)) {
        for (int p = 0; p < POINTS; ++p) weights.push_back(panels(transformed + size_t(p) * out * in, out, in));
    }

    struct Space {
        Buffer<float> tiles, products;
        alignas(64) float line[2 * STRIP + 2], even[TILE][STRIP + VL], odd[TILE][STRIP + VL];
        Space(const Convolution& c)
            : tiles(size_t(POINTS) * c.in * STRIP), products(size_t(POINTS) * c.out * STRIP) {}
    };

    // Computes rows 2 `row` and 2 `row` + 1 of y (out, height, width) from x (in, height, width).
    void run(const float* x, float* y, int height, int width, int row, Space& s) const {
        const size_t pixels = size_t(height) * width;
        for (int left = 0; left < width; left += 2 * STRIP) {
            for (int c = 0; c < in; ++c) {
                for (int i = 0; i < TILE; ++i) take_line(x + c * pixels, height, width, 2 * row - 1 + i, left, i, s);
                for (int v = 0; v < STRIP; v += VL) take_tiles(&s.tiles[size_t(c) * STRIP + v], v, s);
            }
            for (int p = 0; p < POINTS; ++p)
                multiply(&s.tiles[size_t(p) * in * STRIP], weights[p].data(), in, out,
                         &s.products[size_t(p) * out * STRIP]);
            for (int c = 0; c < out; ++c) {
                for (int v = 0; v < STRIP; v += VL) give_tiles(&s.products[size_t(c) * STRIP + v], v, bias[c], s);
                for (int i = 0; i < 2 && 2 * row + i < height; ++i)
                    give_line(y + c * pixels + (2 * row + i) * size_t(width) + left, width - left, i, s);
            }
        }
    }

  private:
    // Copies the pixels of a row that tiles from column `left` on depend on, those of even and odd places apart.
    static void take_line(const float* x, int height, int width, int row, int left, int i, Space& s) {
        constexpr int SIZE = 2 * STRIP + 2;
        const int begin = left ? 0 : 1, end = width - left + 1 < SIZE ? width - left + 1 : SIZE;
        const bool inside = row >= 0 && row < height;
        if (!inside || begin || end < SIZE) std::memset(s.line, 0, sizeof s.line);
        if (inside) std::memcpy(s.line + begin, x + size_t(row) * width + left - 1 + begin, 4 * (end - begin));
        for (int j = 0; j < STRIP + 1; ++j) s.even[i][j] = s.line[2 * j], s.odd[i][j] = s.line[2 * j + 1];
    }

    static void combine(const vf (&d)[TILE], vf (&u)[TILE]) {
        u[0] = d[0] - d[2], u[1] = d[1] + d[2], u[2] = d[2] - d[1], u[3] = d[1] - d[3];
    }

    void take_tiles(float* to, int v, const Space& s) const {
        vf rows[TILE][TILE];
        for (int i = 0; i < TILE; ++i) {
            const float *even = s.even[i] + v, *odd = s.odd[i] + v;
            const vf d[TILE] = {load(even), load(odd), load(even + 1), load(odd + 1)};
            combine(d, rows[i]);
        }
        for (int j = 0; j < TILE; ++j) {
            const vf d[TILE] = {rows[0][j], rows[1][j], rows[2][j], rows[3][j]};
            vf u[TILE];
            combine(d, u);
            for (int i = 0; i < TILE; ++i) store(to + size_t(i * TILE + j) * in * STRIP, u[i]);
        }
    }

    void give_tiles(const float* from, int v, float added, Space& s) const {
        vf rows[2][TILE];
        for (int j = 0; j < TILE; ++j) {
            vf m[TILE];
            for (int i = 0; i < TILE; ++i) m[i] = load(from + size_t(i * TILE + j) * out * STRIP);
            rows[0][j] = m[0] + m[1] + m[2], rows[1][j] = m[1] - m[2] - m[3];
        }
        for (int i = 0; i < 2; ++i) {
            const vf(&m)[TILE] = rows[i];
            store(s.even[i] + v, m[0] + m[1] + m[2] + splat(added));
            store(s.odd[i] + v, m[1] - m[2] - m[3] + splat(added));
        }
    }

    static void give_line(float* y, int room, int i, Space& s) {
        for (int j = 0; j < STRIP; ++j) s.line[2 * j] = s.even[i][j], s.line[2 * j + 1] = s.odd[i][j];
        std::memcpy(y, s.line, 4 * (room < 2 * STRIP ? room : 2 * STRIP));
    }
};

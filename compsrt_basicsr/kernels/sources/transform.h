// Products of the channels of a strip with matrices of floats, and the transform y = x T of each token.
#pragma once

#include <algorithm>

#include "profile.h"
#include "strip.h"

// Multiplies the k channels of x by a matrix (n, k) in panels: out has n channels.
inline void multiply(const float* x, const float* matrix, int k, int n, float* out) {
    each_block(n, [&](auto rows, int first) INLINED {
        constexpr int R = decltype(rows)::value;
        const float* panel = matrix + size_t(first) * k;
        vf sums[R][V] = {};
        for (int i = 0; i < k; ++i, panel += R) {
            vf row[V];
            for (int v = 0; v < V; ++v) row[v] = load(x + i * STRIP + v * VL);
            for (int r = 0; r < R; ++r)
                for (int v = 0; v < V; ++v) sums[r][v] += splat(panel[r]) * row[v];
        }
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; ++v) store(out + (first + r) * STRIP + v * VL, sums[r][v]);
    });
}

// Where T is block-diagonal, the blocks go one by one. Hadamard matrices, whose elements are c and -c, need few additions
// and no multiplication. As long as one is [[A, A], [A, -A]], one addition and one subtraction for each pair of channels
// replace it by A, twice. For A, the channels go by fours: the 8 sums x0 +- x1 +- x2 +- x3 are tabled, and each output
// adds or subtracts one sum of each table. Outputs that add about as many are computed 4 at a time, and the shorter lists
// end with the sum 0. The result lacks the factor c. Other matrices are multiplied.
class Transform {
    static constexpr int FOUR = 4, SUMS = 8;
    struct Outputs {
        int rows[FOUR], added, subtracted;  // numbers of entries
    };

    int block = 0;                  // order of B, if T consists of the same B again and again along its diagonal
    int base = 0, levels = 0;       // order of A, how often B was halved
    Buffer<float> dense;            // panels of the columns of B, empty if B is as above
    std::vector<Outputs> outputs;
    std::vector<int32_t> entries;   // of all outputs: where the sums are in the tables, one of each of the 4 in turn

  public:
    int order = 0;        // 0: the identity
    float factor = 1.0f;  // of the result, for the caller to multiply by

    Transform() = default;
    Transform(const float* matrix, int n) {
        if (!matrix) return;
        order = n;
        for (block = 1; n % block || !repeats(matrix); ++block) {}
        if (!take_signs(matrix)) {
            Buffer<float> columns(size_t(block) * block);
            for (int i = 0; i < block; ++i)
                for (int j = 0; j < block; ++j) columns[size_t(j) * block + i] = matrix[size_t(i) * n + j];
            dense = panels(columns.data(), block, block);
        }
    }

    bool empty() const { return order == 0; }
    size_t space() const { return dense.empty() ? size_t(block + zero_sum() + 1) * STRIP : 0; }  // floats

    // Maps x (order, STRIP) to out (order, STRIP) without the factor; `space` has space() floats.
    void run(const float* x, float* out, float* space) const {
        Timed timed(TRANSFORM);
        for (int first = 0; first < order; first += block, x += block * STRIP, out += block * STRIP)
            run_block(x, out, space);
    }

  private:
    void run_block(const float* x, float* out, float* space) const {
        if (!dense.empty()) return multiply(x, dense.data(), block, block, out);
        if (levels) x = butterflies(x, space);
        for (int first = 0; first < block; first += base)
            add_signs(x + first * STRIP, out + first * STRIP, space + block * STRIP);
    }

    bool repeats(const float* matrix) const {
        for (int i = 0; i < order; ++i)
            for (int j = 0; j < order; ++j) {
                const float expected = i / block == j / block ? matrix[i % block * order + j % block] : 0.0f;
                if (matrix[size_t(i) * order + j] != expected) return false;
            }
        return true;
    }

    int zero_sum() const { return base / FOUR * SUMS; }  // number of the sum 0, after those of the tables

    bool take_signs(const float* matrix) {
        const auto at = [&](int i, int j) { return matrix[size_t(i) * order + j]; };
        for (int i = 0; i < block; ++i)
            for (int j = 0; j < block; ++j)
                if (std::fabs(at(i, j)) != std::fabs(at(0, 0))) return false;
        const auto halves = [&](int size) {
            for (int i = 0; i < size / 2; ++i)
                for (int j = 0; j < size / 2; ++j)
                    if (at(i, j) != at(i, j + size / 2) || at(i, j) != at(i + size / 2, j) ||
                        at(i, j) != -at(i + size / 2, j + size / 2))
                        return false;
            return true;
        };
        for (base = block; base % (2 * FOUR) == 0 && halves(base); base /= 2) ++levels;
        if (base % FOUR) return false;
        factor = std::fabs(matrix[0]);
        struct Lists {
            int row;
            std::vector<int32_t> of[2];  // entries to add and to subtract
        };
        std::vector<Lists> all(base);
        for (int j = 0; j < base; ++j) {
            all[j].row = j;
            for (int first = 0; first < base; first += FOUR) {
                int entry = first / FOUR * SUMS;
                for (int i = 1; i < FOUR; ++i) entry += (at(first + i, j) != at(first, j)) << (i - 1);
                all[j].of[at(first, j) < 0].push_back(entry);
            }
        }
        std::sort(all.begin(), all.end(), [](const Lists& a, const Lists& b) { return a.of[0].size() < b.of[0].size(); });
        for (const Lists* lists = all.data(); lists < all.data() + base; lists += FOUR) {
            const int lengths[] = {int(lists[FOUR - 1].of[0].size()), int(lists[0].of[1].size())};
            Outputs four{{}, lengths[0], lengths[1]};
            for (int o = 0; o < FOUR; ++o) four.rows[o] = lists[o].row;
            outputs.push_back(four);
            for (int sign = 0; sign < 2; ++sign)
                for (int i = 0; i < lengths[sign]; ++i)
                    for (int o = 0; o < FOUR; ++o) {
                        const std::vector<int32_t>& own = lists[o].of[sign];
                        entries.push_back((i < int(own.size()) ? own[i] : zero_sum()) * STRIP);
                    }
        }
        return true;
    }

    const float* butterflies(const float* x, float* y) const {
        for (int half = block / 2; half >= base; half /= 2, x = y)
            for (int first = 0; first < block; first += 2 * half)
                for (int i = first * STRIP; i < (first + half) * STRIP; i += VL) {
                    const vf a = load(x + i), b = load(x + i + half * STRIP);
                    store(y + i, a + b);
                    store(y + i + half * STRIP, a - b);
                }
        return x;
    }

    void add_signs(const float* x, float* out, float* table) const {
        const int tables = base / FOUR;
        for (int t = 0; t < tables; ++t)
            for (int v = 0; v < STRIP; v += VL) {
                const float* from = x + FOUR * t * STRIP + v;
                float* to = table + SUMS * t * STRIP + v;
                const vf a = load(from), b = load(from + STRIP), c = load(from + 2 * STRIP), d = load(from + 3 * STRIP);
                const vf pairs[] = {a + b, a - b}, others[] = {c + d, c - d};
                for (int i = 0; i < SUMS; ++i) {
                    const vf &p = pairs[i & 1], &q = others[(i >> 1 & 1) ^ i >> 2];
                    store(to + i * STRIP, i & 2 ? p - q : p + q);
                }
            }
        for (int v = 0; v < STRIP; v += VL) store(table + zero_sum() * STRIP + v, vf{});
        const int32_t* places = entries.data();
        for (const Outputs& four : outputs) {
            vf sums[FOUR][V] = {};
            for (int i = 0; i < four.added; ++i, places += FOUR)
                for (int o = 0; o < FOUR; ++o)
                    for (int v = 0; v < V; ++v) sums[o][v] += load(table + places[o] + v * VL);
            for (int i = 0; i < four.subtracted; ++i, places += FOUR)
                for (int o = 0; o < FOUR; ++o)
                    for (int v = 0; v < V; ++v) sums[o][v] -= load(table + places[o] + v * VL);
            for (int o = 0; o < FOUR; ++o)
                for (int v = 0; v < V; ++v) store(out + four.rows[o] * STRIP + v * VL, sums[o][v]);
        }
    }
};

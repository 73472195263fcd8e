// Memory, and the layout of activations: strips of STRIP tokens, in which the values of one channel lie next to each
// other: (strips, channels, STRIP). Each lane of a vector is a token, so sums over channels need no sum over lanes, and
// channels and heads of any size waste none.
#pragma once

#include <new>
#include <type_traits>
#include <vector>

#include "simd.h"

template <class T>
struct Aligned {  // allocator of 64-byte aligned memory
    typedef T value_type;
    Aligned() = default;
    template <class U>
    Aligned(const Aligned<U>&) {}
    T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))); }
    void deallocate(T* p, size_t) { ::operator delete(p, std::align_val_t(64)); }
    template <class U>
    bool operator==(const Aligned<U>&) const { return true; }
    template <class U>
    bool operator!=(const Aligned<U>&) const { return false; }
};
template <class T>
using Buffer = std::vector<T, Aligned<T>>;

constexpr int V = 2;  // vectors of a strip
constexpr int STRIP = V * VL;
constexpr int SQUARE = 8;  // channels and tokens that are transposed at a time

inline int strips_of(int tokens) { return (tokens + STRIP - 1) / STRIP; }

// Rows or columns of a register block: V sums of each, and one strip's vectors, must fit the registers.
#if LANES == 16 || defined(__aarch64__)
constexpr int BLOCK = 12;
#else
constexpr int BLOCK = 6;
#endif
constexpr int REST = BLOCK > 8 ? 8 : 4;  // the largest power of two below BLOCK

template <int R, class F>
inline void rest_blocks(int first, int n, F f) {
    if (first + R <= n) f(std::integral_constant<int, R>(), first), first += R;
    if constexpr (R > 1) rest_blocks<R / 2>(first, n, f);
}

// Calls f<rows>(first row) so that blocks of BLOCK rows and smaller ones at the end cover n rows.
template <class F>
inline void each_block(int n, F f) {
    int first = 0;
    for (; first + BLOCK <= n; first += BLOCK) f(std::integral_constant<int, BLOCK>(), first);
    rest_blocks<REST>(first, n, f);
}

// Rearranges a matrix (n, k) into panels: those of the blocks of rows follow each other, each as (k, rows).
template <class T>
inline Buffer<T> panels(const T* x, int n, int k) {
    Buffer<T> result(size_t(n) * k);
    each_block(n, [&](auto rows, int first) {
        T* panel = &result[size_t(first) * k];
        for (int i = 0; i < k; ++i)
            for (int r = 0; r < rows; ++r) panel[i * rows + r] = x[size_t(first + r) * k + i];
    });
    return result;
}

inline Buffer<float> copied(const float* x, size_t n) { return Buffer<float>(x, x + n); }

// Writes the transpose of x, SQUARE rows of SQUARE values, to the rows of y.
template <class From, class To>
inline void transpose(From x, To y) {
#if LANES >= 8
    __m256 a[8], b[8];
    for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(x(i));
    for (int i = 0; i < 8; i += 2)
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]), b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            a[i + 2 * j] = _mm256_shuffle_ps(b[i + j], b[i + j + 2], 0x44);
            a[i + 2 * j + 1] = _mm256_shuffle_ps(b[i + j], b[i + j + 2], 0xee);
        }
    for (int i = 0; i < 4; ++i) {
        _mm256_storeu_ps(y(i), _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
        _mm256_storeu_ps(y(i + 4), _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
    }
#else
    for (int i = 0; i < SQUARE; ++i)
        for (int j = 0; j < SQUARE; ++j) y(j)[i] = x(i)[j];
#endif
}

// Calls f(first channel) for squares that cover the channels; the last one may overlap the one before it.
template <class F>
inline void each_square(int channels, F f) {
    for (int i = 0; i + SQUARE <= channels; i += SQUARE) f(i);
    if (channels % SQUARE) f(channels - SQUARE);
}

// Copies tokens, whose channels lie next to each other at at(token), to strips. The lanes beyond the last token of the
// last strip repeat it.
template <class At>
inline void to_strips(At at, int tokens, int channels, float* out) {
    const auto token = [&](int t) { return at(t < tokens ? t : tokens - 1); };
    for (int first = 0; first < tokens; first += STRIP, out += size_t(channels) * STRIP)
        for (int t = 0; t < STRIP; t += SQUARE) {
            const float* rows[SQUARE];
            for (int i = 0; i < SQUARE; ++i) rows[i] = token(first + t + i);
            if (channels < SQUARE)
                for (int i = 0; i < SQUARE; ++i)
                    for (int c = 0; c < channels; ++c) out[c * STRIP + t + i] = rows[i][c];
            else
                each_square(channels, [&](int c) {
                    transpose([&](int i) { return rows[i] + c; }, [&](int i) { return out + (c + i) * STRIP + t; });
                });
        }
}

struct Channels {  // `count` of the `all` channels of a strip
    int all, first, count;
};

// Copies channels of strips to tokens, in which they lie next to each other at at(token).
template <class At>
inline void from_strips(const float* x, int tokens, Channels channels, At at) {
    x += channels.first * STRIP;
    for (int first = 0; first < tokens; first += STRIP, x += size_t(channels.all) * STRIP)
        for (int t = 0; t < STRIP && first + t < tokens; t += SQUARE) {
            const int count = tokens - first - t < SQUARE ? tokens - first - t : SQUARE;
            if (channels.count < SQUARE || count < SQUARE) {
                for (int i = 0; i < count; ++i)
                    for (int c = 0; c < channels.count; ++c) at(first + t + i)[c] = x[c * STRIP + t + i];
                continue;
            }
            float* rows[SQUARE];
            for (int i = 0; i < SQUARE; ++i) rows[i] = at(first + t + i);
            each_square(channels.count, [&](int c) {
                transpose([&](int i) { return x + (c + i) * STRIP + t; }, [&](int i) { return rows[i] + c; });
            });
        }
}

// Products of codes. One int32 lane holds 4 consecutive codes of a token, as bytes without a sign, or 4 consecutive
// centred codes of the other operand, as bytes with a sign.
#pragma once

#include "profile.h"
#include "strip.h"

// dot adds the 4 products of each lane to a sum of 32 bits, exactly, for any bytes.
#if LANES == 16 && defined(__AVX512VNNI__)
inline vi dot(vi acc, vi a, vi w) { return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)a, (__m512i)w); }
#elif LANES == 8 && defined(__AVXVNNI__)
inline vi dot(vi acc, vi a, vi w) { return (vi)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)a, (__m256i)w); }
#elif LANES == 8 && defined(__AVX512VNNI__) && defined(__AVX512VL__)
inline vi dot(vi acc, vi a, vi w) { return (vi)_mm256_dpbusd_epi32((__m256i)acc, (__m256i)a, (__m256i)w); }
#elif defined(__x86_64__)
typedef int16_t vs __attribute__((vector_size(4 * LANES)));
inline vi pair_sums(vs a, vs w) {
#if LANES == 16
    return (vi)_mm512_madd_epi16((__m512i)a, (__m512i)w);
#elif LANES == 8
    return (vi)_mm256_madd_epi16((__m256i)a, (__m256i)w);
#else
    return (vi)_mm_madd_epi16((__m128i)a, (__m128i)w);
#endif
}
inline vi dot(vi acc, vi a, vi w) {
    const vs even = (vs)a & 255, odd = (vs)((vi)a >> 8) & 255;
    return acc + pair_sums(even, (vs)w << 8 >> 8) + pair_sums(odd, (vs)w >> 8);
}
#if LANES > 4
#define SHORT_SUMS  // products of bytes whose sums of 16 bits saturate, unless the codes are small
inline vs short_dot(vs acc, vi a, vi w) {
    typedef uint16_t vu __attribute__((vector_size(4 * LANES)));  // after NaN, codes may be of any size
#if LANES == 16
    return (vs)((vu)acc + (vu)_mm512_maddubs_epi16((__m512i)a, (__m512i)w));
#else
    return (vs)((vu)acc + (vu)_mm256_maddubs_epi16((__m256i)a, (__m256i)w));
#endif
}
inline vi widened(vs sums) { return pair_sums(sums, vs{} + 1); }
#endif
#else
inline vi dot(vi acc, vi a, vi w) {
    for (int i = 0; i < 4; ++i) acc += (a >> 8 * i & 255) * (w << (24 - 8 * i) >> 24);
    return acc;
}
#endif

inline int groups_of(int k) { return (k + 3) / 4; }

// Returns how many lanes of products of codes up to `top` and `largest` in magnitude a sum of 16 bits holds; 0: none.
inline int short_groups_of(int top, int largest) { return 32767 / (2 * (top > 0 ? top : 1) * (largest > 0 ? largest : 1)); }

// The other operand of a product: n rows of k centred codes. Row r has its codes 4 g to 4 g + 3 at lanes[g * step + r];
// with step 0 it is in panels.
struct Factor {
    const int32_t* lanes;
    int n, k, step, short_groups;
};

// With 32 registers, sums stay in them until they are used. With 16, all must be theirs while they are added up, so that
// needs a function of its own.
#if LANES == 16 || defined(__aarch64__)
#define WITH_REGISTERS INLINED inline
#else
#define WITH_REGISTERS [[gnu::noinline]]
#endif

// Sums of products of the codes of a strip and R rows of a factor.
template <int R>
WITH_REGISTERS void sums_of(const int32_t* codes, const int32_t* weights, int step, int groups, vi (&sums)[R][V]) {
    vi total[R][V] = {};
    for (int g = 0; g < groups; ++g, codes += STRIP, weights += step) {
        vi a[V];
        for (int v = 0; v < V; ++v) a[v] = load(codes + v * VL);
        for (int r = 0; r < R; ++r) {
            const vi w = splat(weights[r]);
            for (int v = 0; v < V; ++v) total[r][v] = dot(total[r][v], a[v], w);
        }
    }
    std::memcpy(sums, total, sizeof total);
}

#ifdef SHORT_SUMS
// Widens the sums after at most `at_once` groups.
template <int R>
WITH_REGISTERS void short_sums_of(const int32_t* codes, const int32_t* weights, int step, int groups, int at_once,
                                     vi (&sums)[R][V]) {
    for (bool first = true; first || groups > 0; first = false, groups -= at_once) {
        vs part[R][V] = {};
        for (int g = 0; g < at_once && g < groups; ++g, codes += STRIP, weights += step) {
            vi a[V];
            for (int v = 0; v < V; ++v) a[v] = load(codes + v * VL);
            for (int r = 0; r < R; ++r) {
                const vi w = splat(weights[r]);
                for (int v = 0; v < V; ++v) part[r][v] = short_dot(part[r][v], a[v], w);
            }
        }
        for (int r = 0; r < R; ++r)
            for (int v = 0; v < V; ++v) sums[r][v] = widened(part[r][v]) + (first ? vi{} : sums[r][v]);
    }
}
#endif

// Multiplies codes (strips, groups of k, STRIP) by a factor; emit(strip, row, first token in it, sums of VL tokens)
// receives the results.
template <class Emit>
INLINED inline void product(const int32_t* codes, int strips, const Factor& factor, Emit emit) {
    Timed timed(PRODUCT);
    const int groups = groups_of(factor.k);
    each_block(factor.n, [&](auto rows, int first) INLINED {
        constexpr int R = decltype(rows)::value;
        const int32_t* weights = factor.lanes + (factor.step ? first : first * groups);
        const int step = factor.step ? factor.step : R;
        for (int s = 0; s < strips; ++s) {
            const int32_t* of_strip = codes + size_t(s) * groups * STRIP;
            vi sums[R][V];
#ifdef SHORT_SUMS
            if (factor.short_groups > 0) short_sums_of(of_strip, weights, step, groups, factor.short_groups, sums);
            else
#endif
                sums_of(of_strip, weights, step, groups, sums);
#pragma GCC unroll 12
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
                for (int v = 0; v < V; ++v) emit(s, first + r, v * VL, sums[r][v]);
        }
    });
}

// Packs weights (n, k) into panels of lanes, zero in the padding.
inline Buffer<int32_t> pack(const int8_t* weights, int n, int k) {
    const int groups = groups_of(k);
    Buffer<int32_t> lanes(size_t(groups) * n);
    for (int r = 0; r < n; ++r) std::memcpy(&lanes[size_t(r) * groups], weights + size_t(r) * k, k);
    return panels(lanes.data(), n, groups);
}

inline int largest_magnitude(const int8_t* weights, size_t n) {
    int largest = 0;
    for (size_t i = 0; i < n; ++i) largest = weights[i] > largest ? weights[i] : -weights[i] > largest ? -weights[i] : largest;
    return largest;
}

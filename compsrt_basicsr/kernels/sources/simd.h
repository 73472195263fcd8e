// Vectors of VL floats or int32, as wide as the compiling machine supports, and the operations that the kernels need.
// For GCC and clang; intrinsics only where there is no plain operator.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define LANES 16
constexpr int MAX_VECTORS = 4;  // vectors per row in a register block
#elif defined(__AVX2__)
#define LANES 8
constexpr int MAX_VECTORS = 2;
#elif defined(__aarch64__)
#define LANES 4
constexpr int MAX_VECTORS = 4;
#else
#define LANES 4
constexpr int MAX_VECTORS = 2;
#endif

constexpr int VL = LANES;
constexpr int ROWS = 8;  // tiles have a multiple of this many rows
typedef float vf __attribute__((vector_size(4 * LANES)));
typedef int32_t vi __attribute__((vector_size(4 * LANES)));
typedef float vf_mem __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi_mem __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

inline vf load(const float* p) { return *reinterpret_cast<const vf_mem*>(p); }
inline void store(float* p, vf v) { *reinterpret_cast<vf_mem*>(p) = v; }
inline vf load(const float* p, int lanes) {  // zero beyond `lanes`
    if (lanes == VL) return load(p);
    vf v{};
    std::memcpy(&v, p, 4 * lanes);
    return v;
}
inline void store(float* p, vf v, int lanes) {
    if (lanes == VL) return store(p, v);
    std::memcpy(p, &v, 4 * lanes);
}
inline vi load(const int32_t* p) { return *reinterpret_cast<const vi_mem*>(p); }
inline vf splat(float x) { return x - vf{}; }
inline vi splat(int32_t x) { return x - vi{}; }
inline int padded(int n, int step = VL) { return (n + step - 1) / step * step; }

// Keeps the compiler from joining a product with the sum that follows it, which would round once instead of twice.
template <class T>
inline T rounded(T product) {
#if defined(__x86_64__)
    asm("" : "+x"(product));
#elif defined(__aarch64__)
    asm("" : "+w"(product));
#else
    asm("" : "+m"(product));
#endif
    return product;
}

// These return the second argument if the first is NaN.
#if LANES == 16
inline vf larger(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
inline vf smaller(vf a, vf b) { return (vf)_mm512_min_ps((__m512)a, (__m512)b); }
#elif LANES == 8
inline vf larger(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
inline vf smaller(vf a, vf b) { return (vf)_mm256_min_ps((__m256)a, (__m256)b); }
#else
inline vf larger(vf a, vf b) { return a > b ? a : b; }
inline vf smaller(vf a, vf b) { return a < b ? a : b; }
#endif

#if LANES == 16
inline float sum(vf v) { return _mm512_reduce_add_ps((__m512)v); }
inline float maximum(vf v) { return _mm512_reduce_max_ps((__m512)v); }
inline int32_t sum(vi v) { return _mm512_reduce_add_epi32((__m512i)v); }
inline bool any(vi v) { return _mm512_test_epi32_mask((__m512i)v, (__m512i)v) != 0; }
#else
template <class V, class F>
inline auto reduce(V v, F f) {
    auto r = v[0];
    for (int i = 1; i < VL; ++i) r = f(r, v[i]);
    return r;
}
inline float sum(vf v) { return reduce(v, [](float a, float b) { return a + b; }); }
#if LANES == 8
inline float maximum(vf v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128((__m256)v), _mm256_extractf128_ps((__m256)v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
inline int32_t sum(vi v) {
    __m128i m = _mm_add_epi32(_mm256_castsi256_si128((__m256i)v), _mm256_extracti128_si256((__m256i)v, 1));
    m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0xee));
    return _mm_cvtsi128_si32(_mm_add_epi32(m, _mm_shuffle_epi32(m, 0x55)));
}
inline bool any(vi v) { return !_mm256_testz_si256((__m256i)v, (__m256i)v); }
#else
inline float maximum(vf v) { return reduce(v, [](float a, float b) { return a > b ? a : b; }); }
inline int32_t sum(vi v) { return reduce(v, [](int32_t a, int32_t b) { return a + b; }); }
inline bool any(vi v) { return reduce(v, [](int32_t a, int32_t b) { return a | b; }) != 0; }
#endif
#endif

// Products of codes. One int32 lane of a weight vector holds GROUP consecutive coefficients of one column; the lane of
// an activation holds the same coefficients of one row. dot adds the GROUP products to each int32 lane, exactly.
#if LANES == 16 && defined(__AVX512VNNI__)
typedef uint8_t code_t;
typedef int8_t weight_t;
inline vi dot(vi acc, vi a, vi w) { return (vi)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)a, (__m512i)w); }
#elif LANES == 8 && defined(__AVXVNNI__)
typedef uint8_t code_t;
typedef int8_t weight_t;
inline vi dot(vi acc, vi a, vi w) { return (vi)_mm256_dpbusd_avx_epi32((__m256i)acc, (__m256i)a, (__m256i)w); }
#elif LANES == 16
typedef int16_t code_t;  // 16 bits, because the 8-bit product of older machines saturates
typedef int16_t weight_t;
inline vi dot(vi acc, vi a, vi w) { return acc + (vi)_mm512_madd_epi16((__m512i)a, (__m512i)w); }
#elif LANES == 8
typedef int16_t code_t;
typedef int16_t weight_t;
inline vi dot(vi acc, vi a, vi w) { return acc + (vi)_mm256_madd_epi16((__m256i)a, (__m256i)w); }
#else
typedef int32_t code_t;
typedef int32_t weight_t;
inline vi dot(vi acc, vi a, vi w) { return acc + a * w; }
#endif
constexpr int GROUP = 4 / sizeof(code_t);

inline int32_t ones() {  // a lane of GROUP codes 1
    code_t one[GROUP];
    for (code_t& c : one) c = 1;
    int32_t lane;
    std::memcpy(&lane, one, 4);
    return lane;
}

inline void store_codes(code_t* p, vi codes) {
    typedef code_t vc __attribute__((vector_size(sizeof(code_t) * LANES)));
    vc narrow = __builtin_convertvector(codes, vc);
    std::memcpy(p, &narrow, sizeof narrow);
}

inline vi tail_mask(int valid) {  // all bits in the first `valid` lanes
    vi mask{};
    for (int i = 0; i < VL; ++i) mask[i] = i < valid ? -1 : 0;
    return mask;
}

constexpr float MAGIC = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, half to even

struct Grid {  // s, Z and 2^b - 1
    float scale, zero, top;
};

// Computes round(clamp((x - Z) / s, 0, top)); `bad` collects the lanes where x is NaN.
inline vi quantize(vf x, vf scale, vf zero, float top, vi& bad) {
    vf v = (x - zero) / scale;
    bad |= v != v;
    v = smaller(larger(v, vf{}), splat(top));
    return (vi)(v + splat(MAGIC)) - (vi)splat(MAGIC);
}
inline vi quantize(vf x, const Grid& g, vi& bad) { return quantize(x, splat(g.scale), splat(g.zero), g.top, bad); }

// Computes e^x for x <= 0 with a relative error below 2e-7; results below 1e-37 are not exact.
inline vf exp_negative(vf x) {
    x = larger(x, splat(-87.0f));
    vf n = (x * splat(1.44269504f) + splat(MAGIC)) - splat(MAGIC);
    vf r = x - n * splat(0.693359375f) + n * splat(2.12194440e-4f);  // ln 2 in two parts
    vf rr = r * r, ends = splat(1.0f) + r, middle = splat(0.5f) + splat(1.0f / 6) * r;  // Taylor, in short chains
    vf high = splat(1.0f / 24) + splat(1.0f / 120) * r + rr * (splat(1.0f / 720) + splat(1.0f / 5040) * r);
    vf p = ends + rr * (middle + rr * high);
    vi exponent = ((vi)(n + splat(MAGIC)) - (vi)splat(MAGIC)) << 23;
    return (vf)((vi)p + exponent);
}

// Computes x (1 + erf(x / sqrt 2)) / 2, with erf by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7).
inline vf gelu(vf x) {
    vf z = x * splat(0.70710678f);
    vf a = larger(z, -z);
    vf t = splat(1.0f) / (splat(1.0f) + splat(0.3275911f) * a);
    vf p = splat(1.061405429f);
    for (float c : {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f}) p = p * t + splat(c);
    vf tail = p * t * exp_negative(-a * a);  // 1 - erf(a)
    vf upper = splat(2.0f) - tail;
    return x * splat(0.5f) * (x < vf{} ? tail : upper);
}

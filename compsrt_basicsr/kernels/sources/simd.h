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
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif

#define INLINED __attribute__((always_inline))  // for lambdas in inner loops, which compilers may leave calls

constexpr int VL = LANES;
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

inline vf square_root(vf v) {
#if LANES == 16
    return (vf)_mm512_sqrt_ps((__m512)v);
#elif LANES == 8
    return (vf)_mm256_sqrt_ps((__m256)v);
#else
    for (int i = 0; i < VL; ++i) v[i] = std::sqrt(v[i]);
    return v;
#endif
}

#if LANES == 16
inline float sum(vf v) { return _mm512_reduce_add_ps((__m512)v); }
inline float maximum(vf v) { return _mm512_reduce_max_ps((__m512)v); }
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
inline bool any(vi v) { return !_mm256_testz_si256((__m256i)v, (__m256i)v); }
#else
inline float maximum(vf v) { return reduce(v, [](float a, float b) { return a > b ? a : b; }); }
inline bool any(vi v) { return reduce(v, [](int32_t a, int32_t b) { return a | b; }) != 0; }
#endif
#endif

inline vi tail_mask(int valid) {  // all bits in the first `valid` lanes
    vi mask{};
    for (int i = 0; i < VL; ++i) mask[i] = i < valid ? -1 : 0;
    return mask;
}

constexpr float MAGIC = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, half to even

// The functions below work on N vectors at a time, step by step: the steps of one depend on each other, and a processor
// looks only a few dozen instructions ahead for others.

template <int N, int TERMS>
INLINED inline void polynomial(const vf (&x)[N], const float (&terms)[TERMS], vf (&p)[N]) {  // lowest power first
    for (int i = 0; i < N; ++i) p[i] = splat(terms[TERMS - 1]);
#pragma GCC unroll 8
    for (int term = TERMS - 2; term >= 0; --term)
        for (int i = 0; i < N; ++i) p[i] = p[i] * x[i] + splat(terms[term]);
}

// Of 2^t for -1/2 <= t <= 1/2; 2^0 is exactly 1, as the largest numerator of a softmax has to be.
constexpr float POWER_TERMS[] = {1.0f,           0.693147004f,   0.240222424f,
                                 0.0555073358f, 0.00967151299f, 0.00132647273f};

// Computes 2^t for -126 <= t <= 0 with a relative error of 2e-7.
template <int N>
INLINED inline void exp2_negative(vf (&t)[N]) {
    vf shifted[N], p[N];
    for (int i = 0; i < N; ++i) shifted[i] = t[i] + splat(MAGIC);  // the last bits hold round(t)
    for (int i = 0; i < N; ++i) t[i] -= shifted[i] - splat(MAGIC);
    polynomial(t, POWER_TERMS, p);
    for (int i = 0; i < N; ++i) t[i] = (vf)((vi)p[i] + ((vi)shifted[i] << 23));
}

// Computes e^x for x <= 0 with a relative error of 2e-7 + 6e-8 |x|; results below 1e-37 are not exact.
template <int N>
INLINED inline void exp_negative(vf (&x)[N]) {
    for (int i = 0; i < N; ++i) x[i] = larger(x[i], splat(-87.0f)) * splat(1.44269504f);
    exp2_negative(x);
}
inline vf exp_negative(vf x) {
    vf one[] = {x};
    exp_negative(one);
    return one[0];
}

// Of log2(erfc(x / sqrt 2) / 2) for 0 <= x <= 6, lowest power first.
constexpr float GELU_TERMS[] = {-0.999996305f,   -1.15117717f,     -0.45883432f,     -0.0533374064f,
                                0.00803697668f, -0.000756916532f, 0.0000317749691f};

// Computes x (1 + erf(x / sqrt 2)) / 2 = max(x, 0) - |x| erfc(|x| / sqrt 2) / 2 with an absolute error of 1e-7: the
// logarithm of the last factor is a polynomial.
template <int N>
INLINED inline void gelu(vf (&x)[N]) {
    vf a[N], p[N];
    for (int i = 0; i < N; ++i) a[i] = smaller(larger(x[i], -x[i]), splat(6.0f));
    polynomial(a, GELU_TERMS, p);
    exp2_negative(p);
    for (int i = 0; i < N; ++i) x[i] = larger(vf{}, x[i]) - a[i] * p[i];
}

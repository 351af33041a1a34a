// A pack of float64 lanes, and the few operations a kernel needs of it.
//
// A kernel's source sets BANDITCORE_LANES before it includes kernel/body.h: 1 gives plain scalars, 2, 4 and 8
// give GCC/Clang vector types. Every operation here is exact or correctly rounded IEEE 754, and the build turns
// contraction off, so a lane computes the same bits at every width.
//
// Everything sits in an anonymous namespace. A weak symbol compiled for AVX-512 could otherwise be the copy the
// linker keeps for all kernels, and crash older machines.
#pragma once

#include <cstdint>
#include <cstring>

#ifndef BANDITCORE_LANES
#error "set BANDITCORE_LANES before including a kernel header"
#endif

#if BANDITCORE_LANES > 1 && (defined(__SSE2__) || defined(_M_X64))
#include <immintrin.h>
#elif BANDITCORE_LANES > 1 && defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define BANDITCORE_INLINE static inline __attribute__((always_inline))

namespace {

constexpr int kLanes = BANDITCORE_LANES;
constexpr std::uint64_t kEveryLane = (std::uint64_t{1} << kLanes) - 1;

// One lane: also what the slow paths of the wider kernels run on.
BANDITCORE_INLINE double select(bool mask, double yes, double no) { return mask ? yes : no; }
BANDITCORE_INLINE bool any(bool mask) { return mask; }
BANDITCORE_INLINE bool all(bool mask) { return mask; }
BANDITCORE_INLINE std::uint64_t flags(bool mask) { return mask; }  // a bit a lane
BANDITCORE_INLINE double lane_of(double pack, int) { return pack; }
BANDITCORE_INLINE double with_lane(double, int, double value) { return value; }
BANDITCORE_INLINE std::uint64_t lane_of(std::uint64_t pack, int) { return pack; }
BANDITCORE_INLINE std::uint64_t bits_of(double value) {
  std::uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}
BANDITCORE_INLINE double float_of(std::uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
BANDITCORE_INLINE double least(double value, double most) { return value < most ? value : most; }
BANDITCORE_INLINE double lesser(double left, double right) { return left < right ? left : right; }
BANDITCORE_INLINE double greatest(double left, double right) { return left > right ? left : right; }
BANDITCORE_INLINE double square_root(double value) { return __builtin_sqrt(value); }
BANDITCORE_INLINE double gathered(const double* from, std::uint64_t index) { return from[index]; }
BANDITCORE_INLINE std::uint64_t gathered(const std::uint64_t* from, std::uint64_t index) { return from[index]; }
// The upper half of a word, with anything above it; the low halves of two words as one.
BANDITCORE_INLINE std::uint64_t upper_half(std::uint64_t word) { return word >> 32; }
BANDITCORE_INLINE std::uint64_t joined(std::uint64_t low, std::uint64_t high) {
  return (low & 0xffffffffu) | high << 32;
}
// The exponent of a positive normal number, as a number.
BANDITCORE_INLINE double exponent_of(double value) {
  return float_of((bits_of(value) >> 52) | 0x4330000000000000u) - (0x1p52 + 1023.0);
}
// left * right + more, rounded once: an instruction of every machine of the last ten years.
BANDITCORE_INLINE double fused(double left, double right, double more) { return __builtin_fma(left, right, more); }
// A bit a lane: left > right, left >= right.
BANDITCORE_INLINE std::uint64_t above(double left, double right) { return left > right; }
BANDITCORE_INLINE std::uint64_t reaching(double left, double right) { return left >= right; }
BANDITCORE_INLINE std::uint64_t xor_of(std::uint64_t a, std::uint64_t b, std::uint64_t c) { return a ^ b ^ c; }
// value ^ (word & mask)
BANDITCORE_INLINE std::uint64_t flipped(std::uint64_t value, std::uint64_t word, std::uint64_t mask) {
  return value ^ (word & mask);
}
// (word & mask) | set
BANDITCORE_INLINE std::uint64_t masked_with(std::uint64_t word, std::uint64_t mask, std::uint64_t set) {
  return (word & mask) | set;
}
// table[the low four bits of index]
BANDITCORE_INLINE double look_up(const double (&table)[16], std::uint64_t index) { return table[index & 15]; }
// Product of the low 32 bits of each lane, 64 bits wide.
BANDITCORE_INLINE std::uint64_t multiply_low(std::uint64_t left, std::uint32_t right) {
  return (left & 0xffffffffu) * right;
}

#if BANDITCORE_LANES == 1

using Floats = double;
using Words = std::uint64_t;
BANDITCORE_INLINE Floats load(const double* from) { return *from; }
BANDITCORE_INLINE Words load(const std::uint64_t* from) { return *from; }
BANDITCORE_INLINE void store(double* to, Floats pack) { *to = pack; }
BANDITCORE_INLINE void store(std::uint64_t* to, Words pack) { *to = pack; }
BANDITCORE_INLINE Words load_arms(const std::uint32_t* from) { return *from; }
BANDITCORE_INLINE Words all_words(std::uint64_t word) { return word; }
BANDITCORE_INLINE Floats all_floats(double value) { return value; }

#else

typedef double Floats __attribute__((vector_size(8 * BANDITCORE_LANES)));
typedef std::uint64_t Words __attribute__((vector_size(8 * BANDITCORE_LANES)));
typedef std::int64_t Mask __attribute__((vector_size(8 * BANDITCORE_LANES)));

BANDITCORE_INLINE Floats select(Mask mask, Floats yes, Floats no) { return mask ? yes : no; }
BANDITCORE_INLINE Floats select(Mask mask, double yes, Floats no) { return mask ? Floats{} + yes : no; }
BANDITCORE_INLINE Floats select(Mask mask, Floats yes, double no) { return mask ? yes : Floats{} + no; }
BANDITCORE_INLINE Floats select(Mask mask, double yes, double no) {
  return mask ? Floats{} + yes : Floats{} + no;
}
BANDITCORE_INLINE std::uint64_t flags(Mask mask) {
#if BANDITCORE_LANES == 8 && defined(__AVX512DQ__)
  return _mm512_movepi64_mask((__m512i)mask);
#elif BANDITCORE_LANES == 4 && defined(__AVX__)
  return static_cast<std::uint64_t>(_mm256_movemask_pd((__m256d)mask));
#elif BANDITCORE_LANES == 2 && defined(__SSE2__)
  return static_cast<std::uint64_t>(_mm_movemask_pd((__m128d)mask));
#else
  std::uint64_t bits = 0;
  for (int lane = 0; lane < kLanes; ++lane) bits |= static_cast<std::uint64_t>(mask[lane] & 1) << lane;
  return bits;
#endif
}
BANDITCORE_INLINE bool any(Mask mask) { return flags(mask) != 0; }
BANDITCORE_INLINE bool all(Mask mask) { return !any(~mask); }
BANDITCORE_INLINE double lane_of(Floats pack, int lane) { return pack[lane]; }
BANDITCORE_INLINE std::uint64_t lane_of(Words pack, int lane) { return pack[lane]; }
BANDITCORE_INLINE Floats with_lane(Floats pack, int lane, double value) {
  pack[lane] = value;
  return pack;
}
BANDITCORE_INLINE Words bits_of(Floats value) { return (Words)value; }
BANDITCORE_INLINE Floats float_of(Words bits) { return (Floats)bits; }
BANDITCORE_INLINE Floats all_floats(double value) { return Floats{} + value; }
BANDITCORE_INLINE Floats least(Floats value, double most) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Floats)_mm512_min_pd((__m512d)value, _mm512_set1_pd(most));
#elif BANDITCORE_LANES == 4 && defined(__AVX__)
  return (Floats)_mm256_min_pd((__m256d)value, _mm256_set1_pd(most));
#elif BANDITCORE_LANES == 2 && defined(__SSE2__)
  return (Floats)_mm_min_pd((__m128d)value, _mm_set1_pd(most));
#else
  return value < most ? value : Floats{} + most;
#endif
}
BANDITCORE_INLINE Floats lesser(Floats left, Floats right) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Floats)_mm512_min_pd((__m512d)left, (__m512d)right);
#elif BANDITCORE_LANES == 4 && defined(__AVX__)
  return (Floats)_mm256_min_pd((__m256d)left, (__m256d)right);
#else
  return left < right ? left : right;
#endif
}
BANDITCORE_INLINE Floats greatest(Floats left, Floats right) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Floats)_mm512_max_pd((__m512d)left, (__m512d)right);
#elif BANDITCORE_LANES == 4 && defined(__AVX__)
  return (Floats)_mm256_max_pd((__m256d)left, (__m256d)right);
#else
  return left > right ? left : right;
#endif
}
BANDITCORE_INLINE Words upper_half(Words word) { return word >> 32; }
BANDITCORE_INLINE Words joined(Words low, Words high) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Words)_mm512_mask_shuffle_epi32((__m512i)low, 0xAAAA, (__m512i)high, _MM_PERM_CCAA);
#else
  return (low & 0xffffffffu) | high << 32;
#endif
}
BANDITCORE_INLINE Floats exponent_of(Floats value) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Floats)_mm512_getexp_pd((__m512d)value);
#else
  return float_of((bits_of(value) >> 52) | 0x4330000000000000u) - (0x1p52 + 1023.0);
#endif
}
BANDITCORE_INLINE Floats gathered(const double* from, Words index) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Floats)_mm512_i64gather_pd((__m512i)index, from, 8);
#elif BANDITCORE_LANES == 4 && defined(__AVX2__)
  return (Floats)_mm256_i64gather_pd(from, (__m256i)index, 8);
#else
  Floats pack;
  for (int lane = 0; lane < kLanes; ++lane) pack[lane] = from[index[lane]];
  return pack;
#endif
}
BANDITCORE_INLINE Words gathered(const std::uint64_t* from, Words index) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Words)_mm512_i64gather_epi64((__m512i)index, from, 8);
#elif BANDITCORE_LANES == 4 && defined(__AVX2__)
  return (Words)_mm256_i64gather_epi64((const long long*)from, (__m256i)index, 8);
#else
  Words pack;
  for (int lane = 0; lane < kLanes; ++lane) pack[lane] = from[index[lane]];
  return pack;
#endif
}
BANDITCORE_INLINE Floats fused(Floats left, Floats right, Floats more) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Floats)_mm512_fmadd_pd((__m512d)left, (__m512d)right, (__m512d)more);
#elif BANDITCORE_LANES == 4 && defined(__FMA__)
  return (Floats)_mm256_fmadd_pd((__m256d)left, (__m256d)right, (__m256d)more);
#elif BANDITCORE_LANES == 2 && defined(__ARM_NEON)
  return (Floats)vfmaq_f64((float64x2_t)more, (float64x2_t)left, (float64x2_t)right);
#else
  Floats sum;
  for (int lane = 0; lane < kLanes; ++lane) sum[lane] = __builtin_fma(left[lane], right[lane], more[lane]);
  return sum;
#endif
}
BANDITCORE_INLINE Floats fused(Floats left, Floats right, double more) { return fused(left, right, all_floats(more)); }
BANDITCORE_INLINE Floats fused(Floats left, double right, Floats more) { return fused(left, all_floats(right), more); }
BANDITCORE_INLINE Floats fused(Floats left, double right, double more) {
  return fused(left, all_floats(right), all_floats(more));
}
BANDITCORE_INLINE std::uint64_t above(Floats left, Floats right) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return _mm512_cmp_pd_mask((__m512d)left, (__m512d)right, _CMP_GT_OQ);
#else
  return flags(left > right);
#endif
}
BANDITCORE_INLINE std::uint64_t reaching(Floats left, Floats right) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return _mm512_cmp_pd_mask((__m512d)left, (__m512d)right, _CMP_GE_OQ);
#else
  return flags(left >= right);
#endif
}
BANDITCORE_INLINE Words xor_of(Words a, Words b, Words c) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Words)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
#else
  return a ^ b ^ c;
#endif
}
BANDITCORE_INLINE Words flipped(Words value, Words word, std::uint64_t mask) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Words)_mm512_ternarylogic_epi64((__m512i)value, (__m512i)word,
                                          _mm512_set1_epi64(static_cast<long long>(mask)), 0x78);
#else
  return value ^ (word & mask);
#endif
}
BANDITCORE_INLINE Words masked_with(Words word, std::uint64_t mask, Words set) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Words)_mm512_ternarylogic_epi64((__m512i)word, _mm512_set1_epi64(static_cast<long long>(mask)),
                                          (__m512i)set, 0xEA);
#else
  return (word & mask) | set;
#endif
}
BANDITCORE_INLINE Floats look_up(const double (&table)[16], Words index) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Floats)_mm512_permutex2var_pd(_mm512_loadu_pd(table), (__m512i)index, _mm512_loadu_pd(table + 8));
#else
  return gathered(table, index & 15u);
#endif
}
BANDITCORE_INLINE Floats square_root(Floats value) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Floats)_mm512_sqrt_pd((__m512d)value);
#elif BANDITCORE_LANES == 4 && defined(__AVX__)
  return (Floats)_mm256_sqrt_pd((__m256d)value);
#elif BANDITCORE_LANES == 2 && defined(__SSE2__)
  return (Floats)_mm_sqrt_pd((__m128d)value);
#else
  Floats root;
  for (int lane = 0; lane < kLanes; ++lane) root[lane] = __builtin_sqrt(value[lane]);
  return root;
#endif
}
BANDITCORE_INLINE Words multiply_low(Words left, std::uint32_t right) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Words)_mm512_mul_epu32((__m512i)left, _mm512_set1_epi64(right));
#elif BANDITCORE_LANES == 4 && defined(__AVX2__)
  return (Words)_mm256_mul_epu32((__m256i)left, _mm256_set1_epi64x(right));
#elif BANDITCORE_LANES == 2 && defined(__SSE2__)
  return (Words)_mm_mul_epu32((__m128i)left, _mm_set1_epi64x(right));
#elif BANDITCORE_LANES == 2 && defined(__ARM_NEON)
  return (Words)vmull_u32(vmovn_u64((uint64x2_t)left), vdup_n_u32(right));
#else
  return (left & 0xffffffffu) * right;
#endif
}
BANDITCORE_INLINE Floats load(const double* from) {
  Floats pack;
  std::memcpy(&pack, from, sizeof pack);
  return pack;
}
BANDITCORE_INLINE Words load(const std::uint64_t* from) {
  Words pack;
  std::memcpy(&pack, from, sizeof pack);
  return pack;
}
BANDITCORE_INLINE void store(double* to, Floats pack) { std::memcpy(to, &pack, sizeof pack); }
BANDITCORE_INLINE void store(std::uint64_t* to, Words pack) { std::memcpy(to, &pack, sizeof pack); }
BANDITCORE_INLINE Words load_arms(const std::uint32_t* from) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  return (Words)_mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i*)from));
#elif BANDITCORE_LANES == 4 && defined(__AVX2__)
  return (Words)_mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i*)from));
#else
  Words pack;
  for (int lane = 0; lane < kLanes; ++lane) pack[lane] = from[lane];
  return pack;
#endif
}
BANDITCORE_INLINE Words all_words(std::uint64_t word) { return Words{} + word; }

#endif

// Writes the lanes of `pack` set in `lanes` to `to`, which has room for a whole pack, and returns how many.
BANDITCORE_INLINE int write_lanes(std::uint64_t* to, Words pack, std::uint64_t lanes) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(static_cast<__mmask8>(lanes), (__m512i)pack));
  return __builtin_popcountll(lanes);
#else
  int count = 0;
  for (; lanes != 0; lanes &= lanes - 1) to[count++] = lane_of(pack, __builtin_ctzll(lanes));
  return count;
#endif
}

// Writes first + lane to `to` for the lanes set in `lanes`, and returns how many; `to` has room for a whole pack.
BANDITCORE_INLINE int write_places(std::uint64_t* to, std::uint64_t first, std::uint64_t lanes) {
#if BANDITCORE_LANES == 8 && defined(__AVX512F__)
  const __m512i places = _mm512_add_epi64(_mm512_set1_epi64(static_cast<long long>(first)),
                                          _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0));
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi64(static_cast<__mmask8>(lanes), places));
  return __builtin_popcountll(lanes);
#else
  int count = 0;
  for (; lanes != 0; lanes &= lanes - 1) to[count++] = first + static_cast<std::uint64_t>(__builtin_ctzll(lanes));
  return count;
#endif
}

}  // namespace

// A pack of float64 lanes, and the few operations a kernel needs of it.
//
// A kernel's source sets BANDITCORE_LANES before it includes kernel_body.h: 1 gives plain scalars, 2, 4 and 8
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
BANDITCORE_INLINE double square_root(double value) { return __builtin_sqrt(value); }
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
BANDITCORE_INLINE Floats least(Floats value, double most) {
#if BANDITCORE_LANES == 2 && defined(__SSE2__)
  return (Floats)_mm_min_pd((__m128d)value, _mm_set1_pd(most));
#else
  return value < most ? value : Floats{} + most;
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
  Words pack;
  for (int lane = 0; lane < kLanes; ++lane) pack[lane] = from[lane];
  return pack;
}
BANDITCORE_INLINE Words all_words(std::uint64_t word) { return Words{} + word; }

#endif

}  // namespace

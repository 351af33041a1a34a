// Packs computed in step: each operation on the first, then on the next, before the operation that follows.
//
// A chain of operations over one pack leaves a processor waiting, and its scheduler, full of what waits, sees little of
// the next pack. So the stages that are long chains run over bundles. Lanes get the bits that they get alone. Templates
// over packs take bundles as they are: here are the operators and functions of lanes.h that those use.
#pragma once

#include <utility>

#include "arithmetic/lanes.h"

namespace {

template <class Pack, int kPacks>
struct Bundle {
  Pack of[kPacks];
};

// What a bundle of `Pack` and an operand have in step: a pack of a bundle, or the one operand of all.
template <class Pack, int kPacks>
BANDITCORE_INLINE Pack pack_of(const Bundle<Pack, kPacks>& bundle, int pack) {
  return bundle.of[pack];
}
BANDITCORE_INLINE double pack_of(double value, int) { return value; }
BANDITCORE_INLINE std::uint64_t pack_of(std::uint64_t word, int) { return word; }
BANDITCORE_INLINE int pack_of(int count, int) { return count; }

template <int kPlace, class Operation, class... Operands>
BANDITCORE_INLINE auto at_place(Operation operation, const Operands&... operands) {
  return operation(pack_of(operands, kPlace)...);
}
template <class Result, class Operation, int... kPlaces, class... Operands>
BANDITCORE_INLINE Bundle<Result, sizeof...(kPlaces)> at_places(std::integer_sequence<int, kPlaces...>,
                                                               Operation operation, const Operands&... operands) {
  return {{at_place<kPlaces>(operation, operands...)...}};
}
template <class Result, int kPacks, class Operation, class... Operands>
BANDITCORE_INLINE Bundle<Result, kPacks> in_step(Operation operation, const Operands&... operands) {
  return at_places<Result>(std::make_integer_sequence<int, kPacks>(), operation, operands...);
}

#define BANDITCORE_IN_STEP(Operator)                                                                      \
  template <class Pack, int kPacks, class Right>                                                          \
  BANDITCORE_INLINE Bundle<Pack, kPacks> operator Operator(const Bundle<Pack, kPacks>& left, Right right) { \
    return in_step<Pack, kPacks>([](auto one, auto other) { return one Operator other; }, left, right);   \
  }
BANDITCORE_IN_STEP(+)
BANDITCORE_IN_STEP(-)
BANDITCORE_IN_STEP(*)
BANDITCORE_IN_STEP(&)
BANDITCORE_IN_STEP(|)
BANDITCORE_IN_STEP(<<)
BANDITCORE_IN_STEP(>>)
#undef BANDITCORE_IN_STEP

template <int kPacks>
BANDITCORE_INLINE Bundle<Words, kPacks> operator-(std::uint64_t left, const Bundle<Words, kPacks>& right) {
  return in_step<Words, kPacks>([](std::uint64_t one, Words other) { return one - other; }, left, right);
}

template <int kPacks>
BANDITCORE_INLINE Bundle<Floats, kPacks> float_of(const Bundle<Words, kPacks>& bits) {
  return in_step<Floats, kPacks>([](Words pack) { return float_of(pack); }, bits);
}
template <int kPacks>
BANDITCORE_INLINE Bundle<Words, kPacks> bits_of(const Bundle<Floats, kPacks>& values) {
  return in_step<Words, kPacks>([](Floats pack) { return bits_of(pack); }, values);
}
template <int kPacks>
BANDITCORE_INLINE Bundle<Floats, kPacks> exponent_of(const Bundle<Floats, kPacks>& values) {
  return in_step<Floats, kPacks>([](Floats pack) { return exponent_of(pack); }, values);
}
template <int kPacks>
BANDITCORE_INLINE Bundle<Floats, kPacks> square_root(const Bundle<Floats, kPacks>& values) {
  return in_step<Floats, kPacks>([](Floats pack) { return square_root(pack); }, values);
}
template <int kPacks, class Right, class More>
BANDITCORE_INLINE Bundle<Floats, kPacks> fused(const Bundle<Floats, kPacks>& left, Right right, More more) {
  return in_step<Floats, kPacks>([](auto one, auto two, auto three) { return fused(one, two, three); }, left, right,
                                 more);
}
template <int kPacks>
BANDITCORE_INLINE Bundle<Floats, kPacks> look_up(const double (&table)[16], const Bundle<Words, kPacks>& index) {
  return in_step<Floats, kPacks>([&](Words pack) { return look_up(table, pack); }, index);
}
template <int kPacks>
BANDITCORE_INLINE Bundle<Words, kPacks> flipped(const Bundle<Words, kPacks>& value, const Bundle<Words, kPacks>& word,
                                                std::uint64_t mask) {
  return in_step<Words, kPacks>([&](Words one, Words two) { return flipped(one, two, mask); }, value, word);
}
template <int kPacks>
BANDITCORE_INLINE Bundle<Words, kPacks> masked_with(const Bundle<Words, kPacks>& word, std::uint64_t mask,
                                                    const Bundle<Words, kPacks>& set) {
  return in_step<Words, kPacks>([&](Words one, Words two) { return masked_with(one, mask, two); }, word, set);
}
template <int kPacks>
BANDITCORE_INLINE Bundle<Words, kPacks> multiply_low(const Bundle<Words, kPacks>& left, std::uint32_t right) {
  return in_step<Words, kPacks>([&](Words pack) { return multiply_low(pack, right); }, left);
}
template <int kPacks>
BANDITCORE_INLINE Bundle<Words, kPacks> xor_of(const Bundle<Words, kPacks>& a, const Bundle<Words, kPacks>& b,
                                               const Bundle<Words, kPacks>& c) {
  return in_step<Words, kPacks>([](Words one, Words two, Words three) { return xor_of(one, two, three); }, a, b, c);
}
template <int kPacks>
BANDITCORE_INLINE Bundle<Words, kPacks> joined(const Bundle<Words, kPacks>& low, const Bundle<Words, kPacks>& high) {
  return in_step<Words, kPacks>([](Words one, Words two) { return joined(one, two); }, low, high);
}

template <int kPacks>
BANDITCORE_INLINE Bundle<Words, kPacks> load_bundle(const std::uint64_t* from) {
  Bundle<Words, kPacks> bundle;
#pragma GCC unroll 4
  for (int pack = 0; pack < kPacks; ++pack) bundle.of[pack] = load(from + pack * kLanes);
  return bundle;
}
template <int kPacks>
BANDITCORE_INLINE Bundle<Floats, kPacks> load_bundle(const double* from) {
  Bundle<Floats, kPacks> bundle;
#pragma GCC unroll 4
  for (int pack = 0; pack < kPacks; ++pack) bundle.of[pack] = load(from + pack * kLanes);
  return bundle;
}
template <class To, class Pack, int kPacks>
BANDITCORE_INLINE void store(To* to, const Bundle<Pack, kPacks>& bundle) {
#pragma GCC unroll 4
  for (int pack = 0; pack < kPacks; ++pack) store(to + pack * kLanes, bundle.of[pack]);
}

}  // namespace

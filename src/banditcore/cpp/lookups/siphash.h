// SipHash-2-4 (Aumasson and Bernstein, INDOCRYPT 2012): 64 bits of a message under a 128-bit key.
// The same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>

namespace banditcore {

struct SipKey {
  std::uint64_t first;
  std::uint64_t second;
};

inline std::uint64_t little_endian_64(const unsigned char* bytes) noexcept {
  std::uint64_t word = 0;
  for (int i = 7; i >= 0; --i) word = word << 8 | bytes[i];
  return word;
}

// Words of eight bytes, then the rest.
class SipHash {
 public:
  explicit SipHash(const SipKey& key) noexcept
      : v0_(key.first ^ 0x736f6d6570736575u),
        v1_(key.second ^ 0x646f72616e646f6du),
        v2_(key.first ^ 0x6c7967656e657261u),
        v3_(key.second ^ 0x7465646279746573u) {}

  void word(std::uint64_t m) noexcept {
    v3_ ^= m;
    round();
    round();
    v0_ ^= m;
    length_ += 8;
  }

  std::uint64_t finish(const unsigned char* rest, std::size_t size) noexcept {
    for (; size >= 8; rest += 8, size -= 8) word(little_endian_64(rest));
    std::uint64_t last = (length_ + size) << 56;
    for (std::size_t i = 0; i < size; ++i) last |= std::uint64_t{rest[i]} << (8 * i);
    word(last);
    v2_ ^= 0xff;
    for (int i = 0; i < 4; ++i) round();
    return v0_ ^ v1_ ^ v2_ ^ v3_;
  }

 private:
  static std::uint64_t turned(std::uint64_t x, int by) noexcept {
    return x << by | x >> (64 - by);
  }

  void round() noexcept {
    v0_ += v1_;
    v1_ = turned(v1_, 13) ^ v0_;
    v0_ = turned(v0_, 32);
    v2_ += v3_;
    v3_ = turned(v3_, 16) ^ v2_;
    v0_ += v3_;
    v3_ = turned(v3_, 21) ^ v0_;
    v2_ += v1_;
    v1_ = turned(v1_, 17) ^ v2_;
    v2_ = turned(v2_, 32);
  }

  std::uint64_t v0_, v1_, v2_, v3_;
  std::uint64_t length_ = 0;
};

inline std::uint64_t siphash(const SipKey& key, const unsigned char* text,
                             std::size_t size) noexcept {
  return SipHash(key).finish(text, size);
}

// Of a message that begins with eight bytes given as a number.
inline std::uint64_t siphash_after(const SipKey& key, std::uint64_t first,
                                   const unsigned char* text, std::size_t size) noexcept {
  SipHash hashing(key);
  hashing.word(first);
  return hashing.finish(text, size);
}

}  // namespace banditcore

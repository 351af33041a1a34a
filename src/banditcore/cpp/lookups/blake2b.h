// BLAKE2b (RFC 7693) of short messages: no key, no salt, up to 8 bytes of digest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "lookups/siphash.h"  // little_endian_64

namespace banditcore {

class Blake2b {
 public:
  static constexpr std::size_t person_bytes = 16;

  // `person` has 16 bytes, filled up with zeros; `digest_bytes` is 1 to 8.
  Blake2b(std::size_t digest_bytes, const unsigned char* person) noexcept
      : kept_(digest_bytes == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * digest_bytes)) - 1) {
    for (int i = 0; i < 8; ++i) start_[i] = initial[i];
    start_[0] ^= 0x01010000u ^ digest_bytes;  // fanout 1, depth 1
    start_[6] ^= little_endian_64(person);
    start_[7] ^= little_endian_64(person + 8);
  }

  // The digest as a little-endian number.
  std::uint64_t operator()(const unsigned char* text, std::size_t size) const noexcept {
    std::uint64_t h[8];
    std::memcpy(h, start_, sizeof h);
    std::uint64_t length = 0;
    for (; size > block_bytes; text += block_bytes, size -= block_bytes) {
      length += block_bytes;
      compress(h, text, length, false);
    }
    unsigned char last[block_bytes] = {};
    if (size) std::memcpy(last, text, size);
    compress(h, last, length + size, true);
    return h[0] & kept_;
  }

 private:
  static constexpr std::size_t block_bytes = 128;
  static constexpr std::uint64_t initial[8] = {
    0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
    0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u};
  static constexpr unsigned char order[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4},
    {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13},
    {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11},
    {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5},
    {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

  static std::uint64_t turned(std::uint64_t x, int by) noexcept {
    return x >> by | x << (64 - by);
  }

  static void mix(std::uint64_t& a, std::uint64_t& b, std::uint64_t& c, std::uint64_t& d,
                  std::uint64_t x, std::uint64_t y) noexcept {
    a += b + x;
    d = turned(d ^ a, 32);
    c += d;
    b = turned(b ^ c, 24);
    a += b + y;
    d = turned(d ^ a, 16);
    c += d;
    b = turned(b ^ c, 63);
  }

  // Unrolled, so that the order of words costs nothing.
  template <int R>
  static void rounds(std::uint64_t* v, const std::uint64_t* m) noexcept {
    if constexpr (R < 12) {
      constexpr const unsigned char* s = order[R % 10];
      mix(v[0], v[4], v[8], v[12], m[s[0]], m[s[1]]);
      mix(v[1], v[5], v[9], v[13], m[s[2]], m[s[3]]);
      mix(v[2], v[6], v[10], v[14], m[s[4]], m[s[5]]);
      mix(v[3], v[7], v[11], v[15], m[s[6]], m[s[7]]);
      mix(v[0], v[5], v[10], v[15], m[s[8]], m[s[9]]);
      mix(v[1], v[6], v[11], v[12], m[s[10]], m[s[11]]);
      mix(v[2], v[7], v[8], v[13], m[s[12]], m[s[13]]);
      mix(v[3], v[4], v[9], v[14], m[s[14]], m[s[15]]);
      rounds<R + 1>(v, m);
    }
  }

  static void compress(std::uint64_t* h, const unsigned char* block, std::uint64_t length,
                       bool is_last) noexcept {
    std::uint64_t m[16], v[16];
    for (int i = 0; i < 16; ++i) m[i] = little_endian_64(block + 8 * i);
    for (int i = 0; i < 8; ++i) v[i] = h[i];
    for (int i = 0; i < 8; ++i) v[8 + i] = initial[i];
    v[12] ^= length;
    if (is_last) v[14] = ~v[14];
    rounds<0>(v, m);
    for (int i = 0; i < 8; ++i) h[i] ^= v[i] ^ v[8 + i];
  }

  std::uint64_t start_[8];
  std::uint64_t kept_;
};

}  // namespace banditcore

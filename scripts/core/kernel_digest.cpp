// Prints a digest of what each kernel of this build computes: equal lines mean equal bits, on whatever machine.
// Also checks Philox against the known answers of Random123. Arguments: none. Exits 1 on a wrong answer.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "kernel/dispatch.h"
#include "kernel/kernel.h"

using namespace banditcore;

namespace {

struct Digest {
  std::uint64_t state = 1469598103934665603u;  // FNV-1a
  void add(const void* bytes, std::size_t size) {
    for (std::size_t at = 0; at < size; ++at) {
      state = (state ^ static_cast<const unsigned char*>(bytes)[at]) * 1099511628211u;
    }
  }
};

// Shapes 2^low .. 2^high by exact operations alone, so that every machine gets the same ones.
std::vector<double> shapes(std::int64_t n, int low, int high, std::uint64_t seed) {
  std::vector<double> column(n);
  for (double& value : column) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    value = std::ldexp(1.0 + static_cast<double>(seed >> 40) / (1 << 24),
                       low + static_cast<int>((seed >> 33) % 127) % (high - low));
  }
  return column;
}

std::uint64_t digest_of(const Kernel& kernel, std::uint64_t part) {
  Digest digest;
  const int spreads[][2] = {{-10, 40}, {0, 40}, {-300, 300}};
  const int low = spreads[part][0], high = spreads[part][1];
  for (std::int64_t n : {1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 257, 511, 512, 513, 1025}) {
    const std::int64_t rows = 20, k = n < 10 ? n : 10;
    const std::vector<double> a = shapes(n, low, high, 1), b = shapes(n, low, high, 2), weight = shapes(n, -50, 50, 3);
    const Range weights = kernel.range(weight.data(), n);
    std::vector<double> out(rows * n);
    std::vector<Candidate> candidates(rows * k);
    std::vector<TopK> tops(rows);
    std::vector<std::int32_t> best(rows * k);
    const Cells cells = {(std::uint64_t{1} << 32) - 7, 0, rows, 0, n};
    const StreamKey key = {77, 78};
    for (int weighted = 0; weighted < 2; ++weighted) {
      const Arms arms = {n, nullptr, a.data(), b.data(), weighted ? weight.data() : nullptr,
                         weights.least, weights.most, low < 0};
      for (Draws draws : {Draws::rates, Draws::log_odds}) {
        kernel.fill(arms, key, cells, draws, out.data());
        digest.add(out.data(), out.size() * sizeof out[0]);
      }
      for (std::int64_t row = 0; row < rows; ++row) tops[row] = {candidates.data() + row * k, k, 0};
      kernel.scan(arms, key, cells, tops.data());
      for (std::int64_t row = 0; row < rows; ++row) {
        kernel.finish(tops[row], key, cells.first_row + static_cast<std::uint64_t>(row), k, best.data() + row * k);
      }
      digest.add(best.data(), best.size() * sizeof best[0]);
    }
  }
  return digest.state;
}

bool known_answers(const Kernel& kernel) {
  const std::uint32_t counter[4] = {0x243F6A88u, 0x85A308D3u, 0x13198A2Eu, 0x03707344u};
  const std::uint32_t expected[4] = {0xD16CFE09u, 0x94FDCCEBu, 0x5001E420u, 0x24126EA1u};
  std::uint32_t found[4];
  kernel.philox(counter, {0xA4093822u, 0x299F31D0u}, found);
  for (int word = 0; word < 4; ++word) {
    if (found[word] != expected[word]) return false;
  }
  return true;
}

}  // namespace

int main() {
  const char* const names[] = {"serial", "neon", "avx2", "avx512"};
  for (const char* name : names) {
    const Kernel* const kernel = choose_kernel(name);
    if (kernel == nullptr) continue;
    if (!known_answers(*kernel)) {
      std::fprintf(stderr, "%s: Philox gives a wrong answer\n", name);
      return 1;
    }
    std::printf("%s", name);
    for (std::uint64_t part = 0; part < 3; ++part) {
      std::printf(" %016llx", static_cast<unsigned long long>(digest_of(*kernel, part)));
    }
    std::printf("\n");
  }
}

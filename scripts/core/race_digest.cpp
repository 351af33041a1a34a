// Prints a digest of the slates that each kernel of the race gives in this build: equal lines mean equal bits, on
// whatever machine, of the tables too. Arguments: none.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "race/rows.h"
#include "race/tables.h"

using namespace banditcore;

namespace {

struct Posterior {
  const char* name;
  std::int64_t size;
  int a_low, a_high, b_low, b_high;  // parameters are 2^low .. 2^high
  bool weighted;
};

const Posterior kPosteriors[] = {
    {"one arm", 1, 0, 4, 2, 8, false},         {"two arms", 2, 0, 4, 2, 8, false},
    {"few arms", 70, 0, 6, 3, 9, false},       {"clicks", 1000, 0, 6, 4, 12, false},
    {"many arms", 20000, 0, 5, 4, 9, false},   {"small shapes", 300, -10, 2, -10, 2, false},
    {"wide", 500, -10, 40, -10, 40, false},    {"weighted", 1000, 0, 6, 4, 12, true},
    {"weighted peaks", 300, -3, 3, -3, 3, true},
};

// By exact operations alone, so that every machine gets the same numbers.
std::vector<double> column(std::int64_t n, int low, int high, std::uint64_t seed) {
  std::vector<double> values(n);
  for (double& value : values) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    const int exponent = low + static_cast<int>((seed >> 33) % 127) % (high - low);
    value = std::ldexp(1.0 + static_cast<double>(seed >> 40) / (1 << 24), exponent);
  }
  return values;
}

std::uint64_t digest(RaceRows run, const Race& race) {
  std::uint64_t state = 1469598103934665603u;  // FNV-1a
  const std::int64_t rows = 23, banned_a_row = 4;
  const std::uint64_t first = (std::uint64_t{1} << 32) - 7;
  std::vector<std::uint64_t> banned(race.size / 64 + 1);
  for (std::int64_t arm = 0; arm < race.size; arm += 3) banned[arm / 64] |= std::uint64_t{1} << arm % 64;
  std::vector<std::int32_t> bans(rows * banned_a_row);
  for (std::size_t at = 0; at < bans.size(); ++at) {
    bans[at] = at % 5 == 0 ? -1 : static_cast<std::int32_t>(at * 7919 % static_cast<std::size_t>(race.size));
  }
  const RaceBans kinds[] = {{}, {banned.data(), nullptr, 0}, {nullptr, bans.data(), banned_a_row},
                            {banned.data(), bans.data(), banned_a_row}};
  for (std::int64_t k : {std::int64_t{1}, std::int64_t{3}, std::int64_t{10}, std::int64_t{17}, std::int64_t{40},
                         race.size + 2}) {
    for (const RaceBans& kind : kinds) {
      const RaceMemory memory(race, 1, k, kind.per_row_size);
      std::vector<std::int32_t> out(rows * k);
      run(race, {77, 78}, first, rows, k, kind, memory.of(0), out.data());
      for (std::int32_t arm : out) {
        for (int byte = 0; byte < 4; ++byte) {
          state = (state ^ (static_cast<std::uint32_t>(arm) >> 8 * byte & 255)) * 1099511628211u;
        }
      }
    }
  }
  return state;
}

}  // namespace

int main() {
  std::istringstream names(race_kernels());
  for (std::string name; names >> name;) {
    std::printf("%s", name.c_str());
    for (const Posterior& law : kPosteriors) {
      const std::vector<double> a = column(law.size, law.a_low, law.a_high, 1),
                                b = column(law.size, law.b_low, law.b_high, 2),
                                weight = column(law.size, -3, 3, 3);
      const RaceTables tables(a.data(), b.data(), law.weighted ? weight.data() : nullptr, law.size);
      std::printf(" %016llx", static_cast<unsigned long long>(digest(choose_race(name.c_str()), tables.race())));
    }
    std::printf("\n");
  }
}

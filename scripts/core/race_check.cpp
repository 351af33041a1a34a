// Builds the tables of a race and prints what a test can compare with the law. Standard input: n, whether weighted
// (0 or 1), how many samples, then the columns a, b and, if weighted, weight, as text. Output: a line
// "columns <name> <digest>" for each instruction set, whose digests must agree, then one line for each sample, a place
// in a cell at which an arm of its table is met: arm, y, dy/dh, the line between the rates with their lifts, the
// greater of the two stored bounds on true rate / line, and the rate that decides where the bound does not.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#define BANDITCORE_LANES 1
#include "race/axis.h"
#include "race/tables.h"

using namespace banditcore;

namespace {

struct Digest {
  std::uint64_t state = 1469598103934665603u;  // FNV-1a
  template <class T>
  void add(const T* values, std::int64_t count) {
    for (std::size_t at = 0; at < static_cast<std::size_t>(count) * sizeof(T); ++at) {
      state = (state ^ reinterpret_cast<const unsigned char*>(values)[at]) * 1099511628211u;
    }
  }
};

std::uint64_t digest_of(const Race& race) {
  Digest digest;
  const double figures[] = {race.rest, race.pace, race.end, race.bottom};
  digest.add(figures, 4);
  digest.add(race.cell, race.cells);
  digest.add(race.shape, race.cells);
  std::int64_t slots = 0;
  for (std::int64_t cell = 0; cell < race.cells; ++cell) {
    for (const RaceTable& table : race.cell[cell].knot) slots = std::max<std::int64_t>(slots, table.first + table.size);
  }
  digest.add(race.slot, slots);
  digest.add(race.entry, race.levels);
  digest.add(race.level, race.size);
  digest.add(race.enters, race.size);
  digest.add(race.stays, race.size);
  digest.add(race.knots, race.size);
  for (std::int64_t arm = 0; arm < race.size; ++arm) {
    if (race.stays[arm] == 0) continue;
    digest.add(race.rate + race.knots[arm], race.stays[arm] + 1);
    digest.add(race.lift + race.knots[arm], race.stays[arm] + 1);
  }
  for (std::int64_t head = 0; head < race.heads; ++head) {
    digest.add(&race.head[head].time, 2);
    digest.add(&race.head[head].arm, 1);
  }
  return digest.state;
}

// The stored bound of an arm in a table, the greatest of its slots, or -1.
double sure_of(const Race& race, const RaceTable& table, std::uint32_t arm) {
  int sure = -1;
  for (std::uint32_t i = table.first; i < table.first + table.size; ++i) {
    const RaceSlot& slot = race.slot[i];
    if (slot.own == arm) sure = std::max<int>(sure, slot.own_sure);
    if (slot.alias == arm) sure = std::max<int>(sure, slot.alias_sure);
  }
  return sure / 65536.0;
}

}  // namespace

int main() {
  long n, weighted, samples;
  if (std::scanf("%ld %ld %ld", &n, &weighted, &samples) != 3 || n < 1) return 2;
  std::vector<double> column[3];
  for (int i = 0; i < 2 + weighted; ++i) {
    column[i].resize(n);
    for (double& value : column[i]) {
      if (std::scanf("%lf", &value) != 1) return 2;
    }
  }
  const double* const weight = weighted ? column[2].data() : nullptr;
  for (int place = 0; race_columns(place).name; ++place) {
    const RaceTables tables(column[0].data(), column[1].data(), weight, n, race_columns(place));
    std::printf("columns %s %016llx\n", race_columns(place).name,
                static_cast<unsigned long long>(digest_of(tables.race())));
  }
  const RaceTables tables(column[0].data(), column[1].data(), weight, n);
  const Race& race = tables.race();
  std::uint64_t state = 1;
  const auto random = [&] {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return static_cast<double>(state >> 11) * 0x1p-53;
  };
  for (long sample = 0; sample < samples && race.cells > 0; ++sample) {
    const auto cell = static_cast<std::int64_t>(random() * static_cast<double>(race.cells));
    const RaceTable& table = race.cell[cell].knot[0];
    const std::uint32_t arm = race.slot[table.first + static_cast<std::uint32_t>(random() * table.size)].own;
    const double s = random();
    if (arm == kNoArm) continue;
    const std::int64_t since = cell - race.enters[arm];
    if (since < 0 || since >= race.stays[arm]) return 1;
    const RaceShape& shape = race.shape[cell];
    const std::uint32_t at = race.knots[arm] + static_cast<std::uint32_t>(since);
    const double line = (1.0 - s) * race.rate[at] * (1.0 + race.lift[at] / 256.0) / shape.left_rate +
                        s * race.rate[at + 1] * (1.0 + race.lift[at + 1] / 256.0) / shape.right_rate;
    const double v = depth_share(shape.left_slope, shape.right_slope, s), y = shape.top - shape.depth * v;
    const double under = shape.top - shape.depth;
    const AxisLaw law(race, arm);
    const LogRate<double> log_rate(race.rate[at], law.slope(shape.top), law.curvature(shape.top), race.rate[at + 1],
                                   law.slope(under), law.curvature(under), shape.depth);
    const double speed = shape.depth / shape.width * depth_share_slope(shape.left_slope, shape.right_slope, s);
    const double sure = std::max(sure_of(race, table, arm), sure_of(race, race.cell[cell].knot[1], arm));
    std::printf("%u %.17g %.17g %.17g %.17g %.17g\n", arm, y, speed, line, sure, exponential(log_rate.at(v)));
  }
  return 0;
}

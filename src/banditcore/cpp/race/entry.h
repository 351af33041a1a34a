// Where on the axis each arm begins to matter.
#pragma once

#include <cstdint>
#include <vector>

#include "race/arms.h"

namespace banditcore {

// All arms by falling y, above which each has at most about `enough` points.
struct RaceEntries {
  std::vector<std::uint32_t> arm;
  std::vector<float> y;
};

// Also sets the constants of plain arms.
RaceEntries find_entries(RaceArms& arms, const RaceColumns& columns, double enough);

}  // namespace banditcore

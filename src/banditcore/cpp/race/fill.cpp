#define BANDITCORE_LANES 1
#include "race/fill.h"

#include <algorithm>
#include <stdexcept>

namespace banditcore {

double RaceFill::tables(std::vector<RaceCell>& cell, std::vector<RaceSlot>& slot) {
  share_lifts();
  const double pace = this->pace();
  const std::size_t cells = plan_.cell.size();
  std::size_t slots = 0;
  const auto right_table = [&](std::size_t c) { return c + 1 == cells || !plan_.cell[c + 1].joined; };
  for (std::size_t c = 0; c < cells; ++c) slots += (plan_.cell[c].count + 1) * (right_table(c) ? 2 : 1);
  if (slots > 0xfffffff0u) throw std::length_error("race tables");
  slot.reserve(slots);
  cell.resize(cells);
  for (std::size_t c = 0; c < cells; ++c) {
    patience_.look();
    const bool shared = plan_.cell[c].joined;
    cell[c].knot[0] = table(c, 0, shared, pace, slot);
    if (shared) cell[c - 1].knot[1] = cell[c].knot[0];
    if (right_table(c)) cell[c].knot[1] = table(c, 1, false, pace, slot);
  }
  return pace;
}

// An arm has one lift a knot.
void RaceFill::share_lifts() {
  lift_[0] = plan_.lift;
  lift_[1] = plan_.lift;
  for (std::size_t c = 1; c < plan_.cell.size(); ++c) {
    const RacePlan::Cell &left = plan_.cell[c - 1], &right = plan_.cell[c];
    const auto share = [&](std::size_t i, std::size_t j) {
      lift_[0][j] = lift_[1][i] = std::max(plan_.lift[i], plan_.lift[j]);
    };
    if (right.joined) {
      for (std::size_t i = 0; i < left.count; ++i) share(left.first + i, right.first + i);
      continue;
    }
    std::size_t i = left.first;
    const std::size_t end = left.first + left.count;
    for (std::size_t j = right.first; j < right.first + right.count; ++j) {
      while (i < end && plan_.arm[i] != plan_.arm[j]) ++i;
      if (i == end) break;  // those on the right that follow have entered here
      share(i++, j);
    }
  }
  const std::size_t members = plan_.cell.empty() ? 0 : plan_.cell.back().first + plan_.cell.back().count;
  sure_.resize(members);
  for (std::size_t i = 0; i < members; ++i) {
    const float lift = 256.0f + static_cast<float>(std::max(lift_[0][i], lift_[1][i]));
    const float sure = plan_.least[i] * (16777216.0f * 0.999999f) / lift;
    sure_[i] = static_cast<std::uint16_t>(static_cast<int>(sure < 65535.0f ? sure : 65535.0f));
  }
}

double RaceFill::pace() const {
  double most = 1.0;
  for (std::size_t c = 0; c < plan_.cell.size(); ++c) {
    const RacePlan::Cell& cell = plan_.cell[c];
    for (int side = 0; side < 2; ++side) {
      const float* const rate = (side ? plan_.rate1 : plan_.rate0).data() + cell.first;
      const std::uint8_t* const lift = lift_[side].data() + cell.first;
      double extra = 0.0;
      for (std::size_t i = 0; i < cell.count; ++i) extra += rate[i] * static_cast<double>(lift[i]);
      most = std::max(most, 1.0 + extra / 256.0 / (side ? plan_.shape[c].right_rate : plan_.shape[c].left_rate));
    }
  }
  return 1.0 / (most * (1.0 + 1e-9));
}

RaceTable RaceFill::table(std::size_t c, int side, bool shared, double pace, std::vector<RaceSlot>& slot) {
  const RacePlan::Cell& cell = plan_.cell[c];
  const std::size_t count = cell.count;
  const float* const rate = (side ? plan_.rate1 : plan_.rate0).data() + cell.first;
  const std::uint8_t* const lift = lift_[side].data() + cell.first;
  const std::uint32_t* const arm = plan_.arm.data() + cell.first;
  const std::uint16_t* const sure = sure_.data() + cell.first;
  const double scale = pace / 256.0 / (side ? plan_.shape[c].right_rate : plan_.shape[c].left_rate);
  double* const p = alias_.weights(count + 1);
  double sum = 0.0;
  for (std::size_t i = 0; i < count; ++i) {
    p[i] = rate[i] * (256.0 + lift[i]) * scale;
    sum += p[i];
  }
  p[count] = std::max(0.0, 1.0 - sum);
  alias_.make(count + 1);
  // A table of two cells has the lesser bound of both; arms that enter at the knot have none on its left.
  const RacePlan::Cell before = shared ? plan_.cell[c - 1] : RacePlan::Cell{0, 0, false};
  const auto sure_of = [&](std::size_t i) -> std::uint16_t {
    if (!shared) return sure[i];
    return i < before.count ? std::min(sure[i], sure_[before.first + i]) : std::uint16_t{0};
  };
  sure_here_.resize(count + 1);
  arm_here_.resize(count + 1);
  for (std::size_t i = 0; i < count; ++i) {
    sure_here_[i] = sure_of(i);
    arm_here_[i] = arm[i];
  }
  sure_here_[count] = 65535;
  arm_here_[count] = kNoArm;
  const RaceTable place = {static_cast<std::uint32_t>(slot.size()), static_cast<std::uint32_t>(count + 1)};
  for (std::size_t i = 0; i <= count; ++i) {
    const std::size_t other = alias_.alias(i);
    slot.push_back({alias_.threshold(i), arm_here_[i], arm_here_[other], sure_here_[i], sure_here_[other]});
  }
  return place;
}

void RaceFill::columns(std::vector<float>& rate, std::vector<std::uint8_t>& lift, const std::uint16_t* enters,
                       std::uint16_t* stays, std::uint32_t* knots) const {
  const std::size_t cells = plan_.cell.size();
  // The next cell says the same of the knot between, where it has the arms of this one.
  const auto last = [&](std::size_t c) { return c + 1 == cells || !plan_.cell[c + 1].joined; };
  for (std::size_t c = 0; c < cells; ++c) {
    if (!last(c)) continue;
    const std::uint32_t* const arm = plan_.arm.data() + plan_.cell[c].first;
    for (std::size_t i = 0; i < plan_.cell[c].count; ++i) {
      stays[arm[i]] = static_cast<std::uint16_t>(c + 1 - enters[arm[i]]);
    }
  }
  // Arms stand in order of entry, which is the order of members.
  std::uint64_t sum = 0;
  for (const RacePlan::Entered& entered : plan_.entered) {
    knots[entered.arm] = static_cast<std::uint32_t>(sum);
    sum += stays[entered.arm] + 1u;
  }
  if (sum > 0xfffffff0u) throw std::length_error("race tables");
  rate.resize(sum);
  lift.resize(sum);
  for (const RacePlan::Entered& entered : plan_.entered) rate[knots[entered.arm]] = entered.rate;
  std::vector<std::uint32_t> place;  // of the members at the left knot: looking each up would miss the caches
  for (std::size_t c = 0; c < cells; ++c) {
    const RacePlan::Cell& cell = plan_.cell[c];
    std::size_t known = 0;
    if (cell.joined) {
      known = place.size();
      for (std::uint32_t& at : place) ++at;
    }
    place.resize(cell.count);
    for (std::size_t i = known; i < cell.count; ++i) {
      const std::uint32_t arm = plan_.arm[cell.first + i];
      place[i] = knots[arm] + static_cast<std::uint32_t>(c - enters[arm]);
    }
    for (std::size_t i = 0; i < cell.count; ++i) {
      rate[place[i]] = plan_.rate0[cell.first + i];
      lift[place[i]] = lift_[0][cell.first + i];
    }
    if (!last(c)) continue;
    for (std::size_t i = 0; i < cell.count; ++i) {
      rate[place[i] + 1] = plan_.rate1[cell.first + i];
      lift[place[i] + 1] = lift_[1][cell.first + i];
    }
  }
}

}  // namespace banditcore

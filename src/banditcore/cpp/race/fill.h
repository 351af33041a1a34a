// Fills the tables of a race from its cells.
#pragma once

#include <vector>

#include "race/alias.h"
#include "race/arms.h"
#include "race/plan.h"

namespace banditcore {

class RaceFill {
 public:
  RaceFill(const RacePlan& plan, AliasMaker& alias, RacePatience& patience)
      : plan_(plan), alias_(alias), patience_(patience) {}
  // One alias table a knot where the cell on its right has the arms of the left one, or more; else one for each
  // side. Returns the pace.
  double tables(std::vector<RaceCell>& cell, std::vector<RaceSlot>& slot);
  // Rates and lifts at the knots, arm by arm; `stays` and `knots` have a place an arm.
  void columns(std::vector<float>& rate, std::vector<std::uint8_t>& lift, const std::uint16_t* enters,
               std::uint16_t* stays, std::uint32_t* knots) const;

 private:
  void share_lifts();
  double pace() const;
  RaceTable table(std::size_t cell, int side, bool shared, double pace, std::vector<RaceSlot>& slot);

  const RacePlan& plan_;
  AliasMaker& alias_;
  RacePatience& patience_;
  std::vector<std::uint8_t> lift_[2];  // of members, at both knots
  std::vector<std::uint16_t> sure_;    // of members
  std::vector<std::uint32_t> arm_here_;   // of the table being made
  std::vector<std::uint16_t> sure_here_;
};

}  // namespace banditcore

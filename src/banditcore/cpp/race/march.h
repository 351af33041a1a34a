// Lays the cells of a race, from the first knot down.
#pragma once

#include "race/entry.h"
#include "race/live.h"
#include "race/plan.h"

namespace banditcore {

class RaceMarch {
 public:
  // Fills the plan, and the `level` and `enters` columns, one place an arm.
  RaceMarch(const RaceArms& arms, const RaceEntries& entries, const RaceColumns& columns, RacePlan& plan,
            std::uint16_t* level, std::uint16_t* enters, RacePatience& patience)
      : arms_(arms), entries_(entries), columns_(columns), plan_(plan), level_of_(level), enters_(enters),
        patience_(patience) {}
  void run();

 private:
  double find_top(double from, double goal, double* mass) const;
  double outside_mass(double y) const;
  void start_phase(double h);
  void enter_down_to(double y, double depth);
  void enter(std::uint32_t arm, double depth);
  double mills(std::uint32_t arm, const RaceLocal& at) const;
  bool too_fast(const RaceStart& at, double depth) const;
  void drop_fast(double depth);
  void drop_all();
  void become_head(std::uint32_t arm);
  RaceSums sums_at(bool below, const RaceLevel& at);
  void advance(double depth);
  double advance_rough(std::int64_t place, double depth, const RaceLevel& under) const;
  void next_cell(double width);
  void close_cell(double depth, double width);
  void measure_last();
  void reserve_members(std::size_t more);
  RaceStart at_place(std::int64_t place) const;

  const RaceArms& arms_;
  const RaceEntries& entries_;
  const RaceColumns& columns_;
  RacePlan& plan_;
  std::uint16_t* level_of_;
  std::uint16_t* enters_;
  RacePatience& patience_;
  RaceLiveArms live_;
  std::int64_t entered_ = 0;      // of the entries
  RaceLevel here_{};              // the current knot
  double time_ = 0.0, h_ = 0.0;
  int shift_ = 0;
  bool joined_ = false;           // the arms are those of the last cell, and perhaps more
  bool unmeasured_ = false;       // the last cell
  RaceSums sums_{};
  bool summed_ = false;
  std::size_t members_ = 0;
  std::vector<std::uint32_t> places_;
  std::vector<float> lift_;
  std::vector<double> bends_;
};

}  // namespace banditcore

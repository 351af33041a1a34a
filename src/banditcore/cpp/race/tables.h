// Builds and owns the tables of a race.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "race/race.h"
#include "race/columns.h"

namespace banditcore {

class AliasMaker;
class RaceArms;

class RaceTables {
 public:
  // a, b: (n,) within 1e-100 .. 1e100, which must outlive the tables; weight: (n,) positive, or null. Throws
  // std::bad_alloc, or std::length_error for tables beyond 2^32 slots, or std::runtime_error when `stopped`, asked
  // every 50 ms, says so.
  RaceTables(const double* a, const double* b, const double* weight, std::int64_t n,
             const RaceColumns& columns = race_columns(), bool (*stopped)() = nullptr);
  RaceTables(const RaceTables&) = delete;
  RaceTables& operator=(const RaceTables&) = delete;
  const Race& race() const { return race_; }
  std::size_t bytes() const;

 private:
  void fill_rest(const RaceArms& arms, AliasMaker& alias);

  Race race_;
  std::vector<double> log_weight_, entry_;
  std::vector<RaceCell> cell_;
  std::vector<RaceShape> shape_;
  std::vector<RacePhase> phase_;
  std::vector<RaceSlot> slot_;
  std::vector<RaceHead> head_;
  std::vector<RaceHeadDraw> head_draw_;
  std::vector<RaceRest> rest_;
  std::vector<std::uint16_t> enters_, stays_, level_;
  std::vector<std::uint32_t> knots_;
  std::vector<float> rate_;
  std::vector<std::uint8_t> lift_, is_head_;
};

}  // namespace banditcore

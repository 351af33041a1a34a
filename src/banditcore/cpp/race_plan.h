// The cells of a race as laid, before their tables are filled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "race.h"

namespace banditcore {

struct RacePlan {
  struct Cell {
    std::size_t first, count;  // members
    bool joined;               // its left knot has the arms of the cell before, in the same order, and perhaps more
  };
  struct Entered {
    std::uint32_t arm;
    float rate;  // at the knot it enters by
  };

  std::vector<Cell> cell;
  std::vector<RaceShape> shape;
  std::vector<RacePhase> phase;
  std::vector<RaceHead> head;
  std::vector<double> entry;            // levels
  std::vector<Entered> entered;         // in order of entry
  // Members: an arm in a cell.
  std::vector<std::uint32_t> arm;
  std::vector<float> rate0, rate1;      // at the knots
  std::vector<float> least;             // of true rate / line without lifts
  std::vector<std::uint8_t> lift;       // (Phi - 1) 256 that the cell needs
  double y = 0.0, time = 0.0;           // of the last knot
};

}  // namespace banditcore

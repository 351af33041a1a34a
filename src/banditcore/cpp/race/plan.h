// The cells of a race as laid, before their tables are filled.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "race/race.h"

namespace banditcore {

// Asks now and then, by the clock, whether the caller wants to be let go.
class RacePatience {
 public:
  explicit RacePatience(bool (*stopped)()) : stopped_(stopped) {}
  void look() {
    if (!stopped_) return;
    const auto now = std::chrono::steady_clock::now();
    if (now < next_) return;
    next_ = now + std::chrono::milliseconds(50);
    if (stopped_()) throw std::runtime_error("building tables was stopped");
  }

 private:
  bool (*stopped_)();
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
};

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

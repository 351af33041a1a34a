// The arms in the tables at the knot where a race is being built, as columns.
#pragma once

#include <cstdint>
#include <vector>

#include "race/columns.h"

namespace banditcore {

// An arm at a knot.
struct RaceStart {
  std::uint32_t arm;
  double density, slope, curve;
  double above;                                               // P(y > knot)
  double rate() const { return density / (1.0 - above); }
  double growth() const { return rate() + slope; }            // of the log-rate, going down
};

class RaceLiveArms {
 public:
  std::int64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  std::uint32_t arm(std::int64_t place) const { return arm_[place]; }
  double density(std::int64_t place) const { return density_[place]; }
  double above(std::int64_t place) const { return above_[place]; }
  const std::uint32_t* arms() const { return arm_.data(); }
  RaceLive columns() {
    return {padded(), a_.data(), b_.data(), constant_.data(), density_.data(), above_.data(), next_density_.data(),
            next_above_.data()};
  }

  void add(const RaceStart& start, double a, double b, double constant) {
    if (size_ + 1 > static_cast<std::int64_t>(arm_.size())) resize(size_ < 64 ? 128 : 2 * size_);
    arm_[size_] = start.arm;
    a_[size_] = a;
    b_[size_] = b;
    constant_[size_] = constant;
    density_[size_] = start.density;
    above_[size_] = start.above;
    ++size_;
  }

  // Takes out `count` arms, by rising places.
  void remove(const std::uint32_t* places, std::int64_t count) {
    if (count == 0) return;
    std::int64_t kept = places[0], next = 0;
    for (std::int64_t i = kept; i < size_; ++i) {
      if (next < count && places[next] == i) {
        ++next;
        continue;
      }
      move(i, kept++);
    }
    for (std::int64_t i = kept; i < size_; ++i) clear(i);
    size_ = kept;
  }

  // To the knot below.
  void step() {
    density_.swap(next_density_);
    above_.swap(next_above_);
  }

 private:
  std::int64_t padded() const { return (size_ + kColumnStep - 1) / kColumnStep * kColumnStep; }
  void resize(std::int64_t places) {
    const std::int64_t from = static_cast<std::int64_t>(arm_.size());
    arm_.resize(places);
    for (auto* column : {&a_, &b_, &constant_, &density_, &above_, &next_density_, &next_above_}) {
      column->resize(places);
    }
    for (std::int64_t i = from; i < places; ++i) clear(i);
  }
  void clear(std::int64_t i) {
    a_[i] = b_[i] = 1.0;
    constant_[i] = -1e6;
    density_[i] = above_[i] = next_density_[i] = next_above_[i] = 0.0;
  }
  void move(std::int64_t from, std::int64_t to) {
    arm_[to] = arm_[from];
    a_[to] = a_[from];
    b_[to] = b_[from];
    constant_[to] = constant_[from];
    density_[to] = density_[from];
    above_[to] = above_[from];
  }

  std::int64_t size_ = 0;
  std::vector<std::uint32_t> arm_;
  std::vector<double> a_, b_, constant_, density_, above_, next_density_, next_above_;
};

}  // namespace banditcore

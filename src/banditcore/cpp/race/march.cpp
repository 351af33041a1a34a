#define BANDITCORE_LANES 1
#include "race/march.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace banditcore {
namespace {

constexpr double kRestGoal = 0x1p-5;      // expected number of points above the first knot
constexpr double kMostGrowth = 4.0;       // a rate may grow by exp(4) in a cell; faster arms become heads
constexpr double kMostMet = 0.9502129316321361;  // 1 - exp(-3): an arm met 3 times on average leaves the tables
constexpr double kMassMiss = 0.004;       // points of a cell over its width, minus 1; more costs every row proposals
constexpr double kDeepEnough = 112.0;     // time after which tables end, if they would outgrow the two limits below
constexpr double kDeepest = 4096.0;       // time after which arms are drawn one by one
constexpr std::int64_t kMostKnotsAnArm = 7;
constexpr std::int64_t kFreeKnots = 10000;
constexpr std::size_t kMostCells = 60000, kMostLevels = 60000;  // 16-bit columns

double cell_floor(double h, int shift) { return float_of(bits_of(h) >> shift << shift); }
double cell_end(double h, int shift) { return float_of(((bits_of(h) >> shift) + 1) << shift); }

// Cells an octave of time are 2^(52 - shift): fine where most points of a row are met, and everywhere short enough to
// keep narrow arms from becoming heads too soon. Few arms have few members in them, and may have twice as many.
int shift_for(double h, std::int64_t arms) {
  const int finer = arms < 3000 ? 1 : 0;
  if (h < 2.0) return 50 - finer;
  return h < 32.0 ? 49 - finer : 50;
}

// How much a log-density may bend in a cell, as curvature times squared depth: one standard deviation of the arm. The
// curvature itself changes by the unit of the axis, and in a deeper cell the quintics do not see where it does.
double most_bend(double depth) {
  const double deep = depth * depth * depth * depth;
  return deep < 1.0 ? 1.0 : std::max(1.0 / deep, 5e-4);
}

// Depth of a cell in which `width` points are expected, from the rates at its left knot.
double depth_for(double width, const RaceSums& at) {
  if (!(at.rate > 0.0)) return 0.0;
  const double growth = at.rise / at.rate, plain = width / at.rate;
  return growth * plain > 1e-6 ? std::log1p(growth * plain) / growth : plain;
}

}  // namespace

void RaceMarch::run() {
  const std::int64_t n = arms_.size(), limit = std::max(kMostKnotsAnArm * n, kFreeKnots);
  double mass;
  here_ = race_level(find_top(std::numeric_limits<double>::infinity(), kRestGoal, &mass));
  start_phase(mass);
  while (time_ < kDeepest && plan_.cell.size() < kMostCells && plan_.entry.size() < kMostLevels) {
    patience_.look();
    if (time_ >= kDeepEnough && static_cast<std::int64_t>(members_) + live_.size() > limit) break;
    if (live_.empty()) {
      if (entered_ == n) break;
      if (entered_ > 0) {
        here_ = race_level(find_top(here_.y, kRestGoal / 8.0, &mass));
        start_phase(mass);
      }
      enter_down_to(here_.y, 0.0);
      joined_ = false;
      continue;
    }
    if (shift_for(h_, n) != shift_) start_phase(h_);
    const RaceSums at = sums_at(false, here_);
    // Cells are as wide as suits rates that grow like time; where few arms are left they grow faster.
    if (at.climb > 0.0 && at.rate * at.rate / at.climb < 0.5 * h_) start_phase(at.rate * at.rate / at.climb);
    next_cell(cell_end(h_, shift_) - h_);
  }
  if (unmeasured_) measure_last();
  plan_.entry.push_back(here_.y);
  for (std::int64_t i = entered_; i < n; ++i) {
    enters_[entries_.arm[i]] = static_cast<std::uint16_t>(plan_.cell.size());
    level_of_[entries_.arm[i]] = static_cast<std::uint16_t>(plan_.entry.size() - 1);
  }
  plan_.phase.back().end = time_;
  plan_.y = here_.y;
  plan_.time = time_;
}

void RaceMarch::start_phase(double h) {
  shift_ = shift_for(h, arms_.size());
  h_ = cell_floor(std::min(std::max(h, 0x1p-60), 16.0 + h), shift_);
  if (!plan_.phase.empty()) plan_.phase.back().end = time_;
  const auto cell = static_cast<std::int64_t>(plan_.cell.size());
  plan_.phase.push_back({0.0, h_ - time_, static_cast<std::int64_t>(bits_of(h_) >> shift_) - cell, shift_});
}

// Expected number of points above y, of the arms that have not entered; those whose entry is lower do not count.
double RaceMarch::outside_mass(double y) const {
  const RaceLevel at = race_level(y);
  double sum = 0.0;
  for (std::int64_t i = entered_; i < arms_.size() && entries_.y[i] >= y; ++i) {
    sum += arms_.envelope(entries_.arm[i], at);
  }
  return sum;
}

// The y at or below `from` above which up to `goal` points of the arms outside lie, and how many do; at most the
// next entry, so that an arm enters there.
double RaceMarch::find_top(double from, double goal, double* mass) const {
  const std::int64_t n = arms_.size();
  double high = std::min(from, static_cast<double>(entries_.y[entered_]));
  double at_high = outside_mass(high), low = high, at_low = at_high, step = 1.0;
  for (std::int64_t count = 1; at_low <= goal; count *= 2) {
    high = low;
    at_high = at_low;
    if (entered_ + count < n) {
      low = std::min(low, static_cast<double>(entries_.y[entered_ + count]));
    } else {
      low -= step;
      step *= 2.0;
    }
    at_low = outside_mass(low);
  }
  for (int round = 0; round < 60 && at_high < 0.6 * goal; ++round) {
    double middle = 0.5 * (low + high);
    if (at_high > 1e-30 && at_low < 1e3 * goal && round % 3 != 2) {
      const double share = std::log(goal * 0.85 / at_high) / std::log(at_low / at_high);
      middle = high + (low - high) * std::min(std::max(share, 0.02), 0.98);
    }
    if (!(middle > low && middle < high)) break;
    const double at_middle = outside_mass(middle);
    if (at_middle > goal) {
      low = middle;
      at_low = at_middle;
    } else {
      high = middle;
      at_high = at_middle;
    }
  }
  *mass = at_high;
  return high;
}

void RaceMarch::become_head(std::uint32_t arm) { plan_.head.push_back({time_, here_.y, arm}); }

// Lets in, at the current knot, the arms whose entry is at y or above.
void RaceMarch::enter_down_to(double y, double depth) {
  while (entered_ < arms_.size() && entries_.y[entered_] >= y) enter(entries_.arm[entered_++], depth);
}

// One more arm: at the current knot, into the tables or among the heads.
void RaceMarch::enter(std::uint32_t arm, double depth) {
  enters_[arm] = static_cast<std::uint16_t>(plan_.cell.size());
  if (plan_.entry.empty() || plan_.entry.back() != here_.y) plan_.entry.push_back(here_.y);
  level_of_[arm] = static_cast<std::uint16_t>(plan_.entry.size() - 1);
  const RaceLocal at = arms_.local(arm, here_);
  RaceStart start{arm, at.density, at.slope, at.curve, 0.0};
  if (at.density > 0.0 && at.slope > 0.0) {
    start.above = at.density * mills(arm, at);
  }
  plan_.entered.push_back({arm, static_cast<float>(start.rate())});
  if (too_fast(start, depth)) {
    become_head(arm);
  } else {
    live_.add(start, arms_.a()[arm], arms_.b()[arm], arms_.constant(arm));
    summed_ = false;
  }
}

// The mass above the current knot over the density there.
double RaceMarch::mills(std::uint32_t arm, const RaceLocal& at) const {
  const double relative = at.curve / (at.slope * at.slope);
  if (!arms_.plain() || relative > 0.16 || at.density > 1e-4 * at.slope) return arms_.law(arm).mills(here_.y);
  // Integration by parts, thrice; the third derivative of the log-density is that of the logistic function. What is
  // left out is below 2e-2 of a mass below 1e-4.
  const double third = at.curve * (here_.rest - here_.x) / (at.slope * at.slope * at.slope);
  return (1.0 - relative * (1.0 - 3.0 * relative) - third) / at.slope;
}

RaceStart RaceMarch::at_place(std::int64_t place) const {
  const RaceLocal at = arms_.bend(live_.arm(place), here_);
  return {live_.arm(place), live_.density(place), at.slope, at.curve, live_.above(place)};
}

bool RaceMarch::too_fast(const RaceStart& at, double depth) const {
  if (!(at.density > 0.0) || at.above > kMostMet || at.growth() * depth > kMostGrowth) return true;
  if (depth == 0.0) return false;
  const double mean = std::fabs(at.slope - arms_.bend(at.arm, race_level(here_.y - depth)).slope) / depth;
  return !(std::max(at.curve, mean) * depth * depth <= most_bend(depth));
}

// Arms that a cell of this depth is too much for become heads at the current knot.
void RaceMarch::drop_fast(double depth) {
  places_.resize(live_.size() + kColumnStep);
  std::int64_t count = 0;
  if (arms_.plain()) {
    count = columns_.too_fast(live_.columns(), here_, race_level(here_.y - depth), depth, kMostGrowth,
                              most_bend(depth), kMostMet, places_.data());
  } else {
    for (std::int64_t i = 0; i < live_.size(); ++i) {
      if (too_fast(at_place(i), depth)) places_[count++] = static_cast<std::uint32_t>(i);
    }
  }
  while (count > 0 && places_[count - 1] >= live_.size()) --count;
  if (count == 0) return;
  if (unmeasured_) measure_last();
  for (std::int64_t i = 0; i < count; ++i) become_head(live_.arm(places_[i]));
  live_.remove(places_.data(), count);
  joined_ = false;
  summed_ = false;
}

// All arms become heads: always exact, where no cell would be.
void RaceMarch::drop_all() {
  if (unmeasured_) measure_last();
  places_.resize(live_.size() + kColumnStep);
  const std::int64_t count = live_.size();
  for (std::int64_t i = 0; i < count; ++i) {
    places_[i] = static_cast<std::uint32_t>(i);
    become_head(live_.arm(i));
  }
  live_.remove(places_.data(), count);
  joined_ = false;
  summed_ = false;
}

// Sums over the arms in the tables, at the current knot or the one below.
RaceSums RaceMarch::sums_at(bool below, const RaceLevel& at) {
  if (!below && summed_) return sums_;
  RaceLive live = live_.columns();
  if (below) {
    live.density = live.next_density;
    live.above = live.next_above;
  }
  RaceSums sums{};
  if (arms_.plain()) {
    sums = columns_.sums(live, at);
  } else {
    for (std::int64_t i = 0; i < live_.size(); ++i) {
      const double rate = live.density[i] / (1.0 - live.above[i]);
      const double rise = rate * (rate + arms_.bend(live_.arm(i), at).slope);
      sums.rate += rate;
      sums.rise += rise;
      sums.climb += std::max(rise, 0.0);
    }
  }
  if (!below) {
    sums_ = sums;
    summed_ = true;
  }
  return sums;
}

// Densities and masses at the knot below.
void RaceMarch::advance(double depth) {
  const RaceLevel under = race_level(here_.y - depth);
  RaceLive live = live_.columns();
  if (!arms_.plain()) {
    for (std::int64_t i = 0; i < live_.size(); ++i) {
      live.next_density[i] = arms_.local(live_.arm(i), under).density;
      live.next_above[i] = advance_rough(i, depth, under);
    }
    return;
  }
  places_.resize(live.count + kColumnStep);
  const std::int64_t rough = columns_.advance(live, here_, under, depth, places_.data());
  for (std::int64_t i = 0; i < rough; ++i) {
    if (places_[i] < live_.size()) live.next_above[places_[i]] = advance_rough(places_[i], depth, under);
  }
}

// P(y > the knot below) of one arm, with as many steps as it takes.
double RaceMarch::advance_rough(std::int64_t place, double depth, const RaceLevel& under) const {
  const std::uint32_t arm = live_.arm(place);
  const double above = live_.above(place);
  RaceLocal up = arms_.bend(arm, here_);
  up.density = live_.density(place);
  const RaceLocal end = arms_.local(arm, under);
  int parts = 1;
  if (above > 1e-7 || end.density * depth > 1e-7) {
    const double wide = depth * square_root(std::max(up.curve, end.curve));
    const double steep = depth * std::max(std::fabs(up.slope), std::fabs(end.slope));
    parts = std::max(1, static_cast<int>(std::ceil(std::max(wide / 0.4, steep / 0.8))));
  }
  double mass = 0.0;
  for (int part = 1; part <= parts; ++part) {
    const RaceLocal down = part == parts ? end : arms_.local(arm, race_level(here_.y - depth * part / parts));
    mass += race_mass(up.density, up.slope, up.curve, down.density, down.slope, down.curve, depth / parts);
    up = down;
  }
  return std::min(above + mass, kMostAbove);
}

// Lays one cell, unless all arms turn out to be too fast for it.
void RaceMarch::next_cell(double width) {
  double depth = 0.0;
  for (std::int64_t before = -1; before != live_.size();) {
    before = live_.size();
    if (before == 0) return;
    depth = depth_for(width, sums_at(false, here_));
    drop_fast(depth);
  }
  for (int round = 0;; ++round) {
    enter_down_to(here_.y - depth, depth);
    const RaceSums left = sums_at(false, here_);
    advance(depth);
    const RaceSums right = sums_at(true, race_level(here_.y - depth));
    const double mass = 0.5 * depth * (left.rate + right.rate) + depth * depth / 12.0 * (left.rise - right.rise);
    if (round == 4 || std::fabs(mass - width) < kMassMiss * width) {
      // Depth as a cubic of time must not turn back: slopes up to 3 at both ends are enough (Fritsch, Carlson 1980).
      if (!(width < 3.0 * depth * left.rate && width < 3.0 * depth * right.rate)) {
        drop_all();
        return;
      }
      close_cell(depth, width);
      sums_ = right;
      summed_ = true;
      return;
    }
    const double change = std::min(std::max((width - mass) / right.rate, -0.6 * depth), depth);
    depth += change;
    // A deeper cell may be too deep for some.
    if (change > 0.0) {
      drop_fast(depth);
      if (live_.empty()) return;
    }
  }
}

void RaceMarch::reserve_members(std::size_t more) {
  const std::size_t needed = members_ + more + kColumnStep;
  if (needed <= plan_.arm.size()) return;
  const std::size_t usual = 12 * static_cast<std::size_t>(arms_.size());  // of click data
  const std::size_t places = std::max({needed, usual, 2 * plan_.arm.size()});
  plan_.arm.resize(places);
  plan_.rate0.resize(places);
  plan_.rate1.resize(places);
  plan_.least.resize(places);
  plan_.lift.resize(places);
}

void RaceMarch::close_cell(double depth, double width) {
  const std::size_t count = static_cast<std::size_t>(live_.size());
  reserve_members(count);
  const RaceLive live = live_.columns();
  RaceShape shape{};
  shape.top = here_.y;
  shape.depth = depth;
  shape.start = time_;
  shape.width = width;
  shape.left_rate = columns_.rates(live.density, live.above, live.count, plan_.rate0.data() + members_);
  shape.right_rate = columns_.rates(live.next_density, live.next_above, live.count, plan_.rate1.data() + members_);
  std::copy(live_.arms(), live_.arms() + count, plan_.arm.begin() + static_cast<std::ptrdiff_t>(members_));
  if (joined_) {
    plan_.shape.back().right_rate = shape.left_rate;  // one table serves both
    measure_last();
  } else if (unmeasured_) {
    measure_last();
  }
  plan_.cell.push_back({members_, count, joined_});
  plan_.shape.push_back(shape);
  members_ += count;
  unmeasured_ = joined_ = true;
  live_.step();
  here_ = race_level(here_.y - depth);
  time_ += width;
  h_ = cell_end(h_, shift_);
}

}  // namespace banditcore

#define BANDITCORE_LANES 1
#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "race_alias.h"
#include "race_axis.h"
#include "race_peak.h"
#include "race_tables.h"

namespace banditcore {
namespace {

constexpr double kRestGoal = 0x1p-5;      // expected number of points above the first knot
constexpr double kSmallRest = 0.05;       // and of those above the entries of all later arms
constexpr double kHeadFrom = 3.0;         // an arm met that often on average leaves the tables
constexpr double kMostGrowth = 4.0;       // a rate may grow by exp(4) in a cell; faster arms become heads
constexpr double kMostDeviations = 1.0;   // and a cell may span this many standard deviations of an arm
constexpr double kMostLift = 1.99;
constexpr double kFarEnough = 2.0;        // an envelope from below this drop of the log-density would be loose
constexpr double kNegligible = -45.0;    // log of a density that no table needs
constexpr double kDeepEnough = 128.0;   // and after this, if tables would outgrow the two limits below
constexpr double kDeepest = 4096.0;       // time after which arms are drawn one by one
constexpr std::int64_t kMostKnotsAnArm = 7;
constexpr std::int64_t kFreeKnots = 80000;

double cell_floor(double h, int shift) { return float_of(bits_of(h) >> shift << shift); }
double cell_end(double h, int shift) { return float_of(((bits_of(h) >> shift) + 1) << shift); }

// Cells an octave of time are 2^(52 - shift). Few arms may have many; far down there are few for all.
int shift_for(double h, std::int64_t arms) {
  if (arms < 3000) return h < 32.0 ? 48 : h < 64.0 ? 49 : 51;
  return h < 2.0 ? 50 : h < 32.0 ? 49 : 51;
}

// Density of an arm at a point of the axis, minus its log-derivative, and minus its second.
struct Local {
  double density, slope, curve;
};

}  // namespace

// An arm that is in the tables.
struct LiveArm {
  std::uint32_t arm;
  double density, slope, curve;  // at the current knot
  double above;                  // P(y > knot)
  double rate;                   // density / P(y <= knot)
  double growth() const { return rate + slope; }  // of the log-rate, going down
};

class RaceBuilder {
 public:
  RaceBuilder(RaceTables& tables, const double* a, const double* b, const double* weight, std::int64_t n)
      : t_(tables), n_(n) {
    t_.a_.assign(a, a + n);
    t_.b_.assign(b, b + n);
    bool weighted = false;
    if (weight) {
      for (std::int64_t i = 1; i < n; ++i) weighted |= weight[i] != weight[0];
    }
    if (weighted) {
      t_.log_weight_.resize(n);
      for (std::int64_t i = 0; i < n; ++i) t_.log_weight_[i] = std::log(weight[i]);
    }
    Race& race = t_.race_;
    race.size = n;
    race.weighted = weighted;
    race.a = t_.a_.data();
    race.b = t_.b_.data();
    race.log_weight = t_.log_weight_.data();
  }

  void build() {
    prepare();
    march();
    fill_tables();
    fill_rest();
    publish();
  }

 private:
  AxisLaw law(std::uint32_t arm) const { return AxisLaw(t_.race_, arm); }

  void prepare() {
    peak_.resize(n_);
    constant_.resize(n_);
    total_.resize(n_);
    outside_.resize(n_);
    t_.enters_.assign(n_, 0);
    t_.stays_.assign(n_, 0);
    t_.level_.assign(n_, 0);
    t_.knots_.assign(n_, 0);
    t_.is_head_.assign((n_ + 7) / 8, 0);
    for (std::int64_t i = 0; i < n_; ++i) {
      outside_[i] = static_cast<std::uint32_t>(i);
      const double a = t_.a_[i], b = t_.b_[i];
      peak_[i] = log_peak(a, b);
      total_[i] = a + b;
      // Far from 1e8 the density is a plain formula; beyond it would lose digits that a difference keeps.
      plain_ &= total_[i] < 1e8;
      const double mode = std::log(a / b);
      constant_[i] = peak_[i] - (a * mode - total_[i] * soft_plus(mode));
    }
    plain_ &= !t_.race_.weighted;
  }

  static double soft_plus(double t) { return t > 0.0 ? t + std::log1p(std::exp(-t)) : std::log1p(std::exp(t)); }

  // A knot: what the densities of all arms share there.
  struct Level {
    double y, x, rest, soft;
  };
  static Level level(double y) {
    const double e = std::exp(-std::fabs(y));
    const double small = e / (1.0 + e), large = 1.0 / (1.0 + e);
    return {y, y < 0 ? small : large, y < 0 ? large : small, (y > 0 ? y : 0.0) + std::log1p(e)};
  }
  Local local(std::uint32_t arm, const Level& at) const {
    if (plain_) {
      const double a = t_.a_[arm], b = t_.b_[arm];
      return {exponential(constant_[arm] + a * at.y - total_[arm] * at.soft), b * at.x - a * at.rest,
              total_[arm] * at.x * at.rest};
    }
    const AxisLaw here = law(arm);
    const double drop = here.drop(at.y);
    if (!(drop < 1e300)) return {0.0, 0.0, 0.0};
    return {exponential(peak_[arm] - drop), here.slope(at.y), here.curvature(at.y)};
  }

  // The same without the density.
  Local bend(std::uint32_t arm, const Level& at) const {
    if (plain_) {
      return {0.0, t_.b_[arm] * at.x - t_.a_[arm] * at.rest, total_[arm] * at.x * at.rest};
    }
    const AxisLaw here = law(arm);
    return {0.0, here.slope(at.y), here.curvature(at.y)};
  }

  // Expected number of proposals from the envelope above y, 1 where there is no good one.
  double envelope(std::uint32_t arm, const Level& at) const {
    double log_density, slope;
    if (plain_) {
      log_density = constant_[arm] + t_.a_[arm] * at.y - total_[arm] * at.soft;
      slope = t_.b_[arm] * at.x - t_.a_[arm] * at.rest;
    } else {
      const AxisLaw here = law(arm);
      if (t_.race_.weighted) {
        if (at.y >= t_.log_weight_[arm]) return 0.0;  // it ends below
        if (t_.b_[arm] <= 1.0) return 1.0;            // its density may not fall towards its end
      }
      log_density = peak_[arm] - here.drop(at.y);
      slope = here.slope(at.y);
    }
    if (log_density < kNegligible && slope > 1e-5) return 0.0;
    if (!(slope > 0.0) || log_density > peak_[arm] - kFarEnough) return 1.0;
    return exponential(log_density) / slope;
  }

  double envelopes(double y) const {
    const Level at = level(y);
    double sum = 0.0;
    for (const std::uint32_t arm : outside_) sum += envelope(arm, at);
    return sum;
  }

  // The y below `from` above which up to kRestGoal points of the arms outside lie, and how many do; and a y below
  // it where there are more.
  double find_top(double from, double goal, double* mass, double* below) const {
    double high = from, low, step = 1.0, at_high = 0.0, at_low;
    if (from == std::numeric_limits<double>::infinity()) {
      double mode = -std::numeric_limits<double>::infinity();
      for (const std::uint32_t arm : outside_) {
        const double own = std::log(t_.a_[arm] / t_.b_[arm]);
        mode = std::max(mode, t_.race_.weighted ? t_.log_weight_[arm] + log_expit(own) : own);
      }
      high = mode;
      while ((at_high = envelopes(high)) > goal) {
        high += step;
        step *= 2.0;
      }
      step = 1.0;
    } else {
      at_high = envelopes(high);
      if (at_high > goal) {
        *mass = at_high;
        *below = high;
        return high;
      }
    }
    low = high;
    do {
      low -= step;
      step *= 2.0;
      at_low = envelopes(low);
    } while (at_low <= goal);
    for (int round = 0; round < 60 && at_high < 0.6 * goal; ++round) {
      double middle = 0.5 * (low + high);
      if (at_high > 1e-30 && at_low < 0.9 * outside_.size() && round % 3 != 2) {
        const double share = std::log(goal * 0.85 / at_high) / std::log(at_low / at_high);
        middle = high + (low - high) * std::min(std::max(share, 0.02), 0.98);
      }
      if (!(middle > low && middle < high)) break;
      const double at_middle = envelopes(middle);
      if (at_middle > goal) {
        low = middle;
        at_low = at_middle;
      } else {
        high = middle;
        at_high = at_middle;
      }
    }
    *mass = at_high;
    *below = low;
    return high;
  }

  void become_head(std::uint32_t arm) {
    t_.is_head_[arm >> 3] |= static_cast<std::uint8_t>(1u << (arm & 7));
    t_.head_.push_back({time_, y_, arm});
  }

  // Lets in the arms whose envelope above `where` is worth it: at the current knot, `where` or above it.
  void enter_from(double where, double enough, double depth = 0.0) {
    const Level there = level(where), here = level(y_);
    std::size_t kept = 0;
    for (const std::uint32_t arm : outside_) {
      if (envelope(arm, there) >= enough) {
        enter(arm, here, depth);
      } else {
        outside_[kept++] = arm;
      }
    }
    outside_.resize(kept);
  }

  // One more arm: at the current knot, into the tables or among the heads.
  void enter(std::uint32_t arm, const Level& here, double depth) {
    t_.enters_[arm] = static_cast<std::uint16_t>(t_.cell_.size());
    if (t_.entry_.empty() || t_.entry_.back() != y_) t_.entry_.push_back(y_);
    t_.level_[arm] = static_cast<std::uint16_t>(t_.entry_.size() - 1);
    const Local at = local(arm, here);
    LiveArm live{arm, at.density, at.slope, at.curve, 0.0, 0.0};
    if (at.density > 0.0 && at.slope > 0.0) {
      const double mass = at.density / at.slope;
      const double relative = at.curve / (at.slope * at.slope);
      live.above = mass < 1e-4 && relative < 0.1 ? mass * (1.0 - relative * (1.0 - 3.0 * relative))
                                                 : at.density * law(arm).mills(here.y);
    }
    live.rate = at.density / (1.0 - live.above);
    first_rate_.push_back({arm, static_cast<float>(live.rate)});
    if (too_fast(live, depth)) {
      become_head(arm);
    } else {
      live_.push_back(live);
    }
  }

  bool too_fast(const LiveArm& live, double depth) const {
    if (!(live.density > 0.0)) return true;
    if (live.above > 0.0 && -std::log1p(-live.above) > kHeadFrom) return true;
    const double spread = live.curve * depth * depth;
    return live.growth() * depth > kMostGrowth || spread > kMostDeviations * kMostDeviations;
  }

  // Depth of a cell in which `width` points are expected, from the rates at its left knot.
  double depth_for(double width) const {
    double rate = 0.0, rise = 0.0;
    for (const LiveArm& live : live_) {
      rate += live.rate;
      rise += live.rate * live.growth();
    }
    if (!(rate > 0.0)) return 0.0;
    const double growth = rise / rate;
    const double plain = width / rate;
    return growth * plain > 1e-6 ? std::log1p(growth * plain) / growth : plain;
  }

  void march();
  bool next_cell(double width);
  void advance(double depth, std::vector<LiveArm>& to) const;
  void close_cell(const std::vector<LiveArm>& to, double depth, double width);
  void measure(std::size_t cell);
  void fill_tables();
  void fill_table(RaceTable& table, std::size_t knot, std::ptrdiff_t left, std::ptrdiff_t right);
  void fill_rest();
  void publish();

  // An arm in a cell.
  struct Member {
    std::uint32_t arm;
    float rate[2];     // at the knots
    float least, most; // of true rate / line without lifts
    std::uint8_t lift[2];
    std::uint16_t sure;
  };
  struct CellPlan {
    std::size_t first, count;  // members
    bool joined;               // its left knot has the arms of the cell before, and perhaps more
  };

  RaceTables& t_;
  std::int64_t n_;
  bool plain_ = true;
  std::vector<double> peak_, constant_, total_;
  std::vector<std::uint32_t> outside_;
  std::vector<LiveArm> live_;
  std::vector<Member> member_;
  std::vector<CellPlan> plan_;
  struct FirstRate {
    std::uint32_t arm;
    float rate;
  };
  std::vector<FirstRate> first_rate_;
  double y_ = 0.0, time_ = 0.0, h_ = 0.0;
  int shift_ = 50;
  bool joined_ = false;
  AliasMaker alias_;
};

void RaceBuilder::march() {
  double mass, below;
  y_ = find_top(std::numeric_limits<double>::infinity(), kRestGoal, &mass, &below);
  const auto start_phase = [&](double h) {
    shift_ = shift_for(h, n_);
    h_ = cell_floor(std::min(std::max(h, 0x1p-60), 16.0 + h), shift_);
    if (!t_.phase_.empty()) t_.phase_.back().end = time_;
    const auto cell = static_cast<std::int64_t>(t_.cell_.size());
    t_.phase_.push_back({0.0, h_ - time_, static_cast<std::int64_t>(bits_of(h_) >> shift_) - cell, shift_});
  };
  start_phase(mass);
  while (time_ < kDeepest && t_.cell_.size() < 60000) {
    const std::int64_t limit = std::max(kMostKnotsAnArm * n_, kFreeKnots);
    if (time_ >= kDeepEnough && static_cast<std::int64_t>(member_.size()) + static_cast<std::int64_t>(live_.size()) > limit) {
      break;
    }
    if (live_.empty()) {
      if (outside_.empty()) break;
      if (!plan_.empty() || !t_.head_.empty()) {
        y_ = find_top(y_, kRestGoal / 8.0, &mass, &below);
        start_phase(mass);
      }
      // Those that count here enter; next_cell adds those that will by the next knot. Where the arms' ends are
      // sharp none counts yet.
      const double enough = kSmallRest / static_cast<double>(n_);
      if (mass > 0.0) {
        enter_from(y_, std::min(enough, 0.5 * mass / static_cast<double>(outside_.size())));
      } else {
        enter_from(below, enough);
      }
      joined_ = false;
      continue;
    }
    if (shift_for(h_, n_) != shift_) start_phase(h_);
    double rate = 0.0, rise = 0.0;
    for (const LiveArm& live : live_) {
      rate += live.rate;
      rise += live.rate * std::max(live.growth(), 0.0);
    }
    // Cells are as wide as suits rates that grow like time; where few arms are left they grow faster.
    if (rise > 0.0 && rate * rate / rise < 0.5 * h_) {
      start_phase(rate * rate / rise);
    }
    next_cell(cell_end(h_, shift_) - h_);
  }
  t_.entry_.push_back(y_);
  for (const std::uint32_t arm : outside_) {
    t_.enters_[arm] = static_cast<std::uint16_t>(t_.cell_.size());
    t_.level_[arm] = static_cast<std::uint16_t>(t_.entry_.size() - 1);
  }
  t_.phase_.back().end = time_;
}

// Lays one cell, unless all arms turn out to be too fast for it.
bool RaceBuilder::next_cell(double width) {
  double depth = depth_for(width);
  for (;;) {
    const std::size_t before = live_.size();
    std::size_t kept = 0;
    for (const LiveArm& live : live_) {
      if (too_fast(live, depth)) {
        become_head(live.arm);
      } else {
        live_[kept++] = live;
      }
    }
    live_.resize(kept);
    if (kept == before) break;
    joined_ = false;
    if (live_.empty()) return false;
    depth = depth_for(width);
  }
  std::vector<LiveArm> to;
  for (int round = 0;; ++round) {
    enter_from(y_ - depth, kSmallRest / static_cast<double>(n_), depth);
    advance(depth, to);
    double rate0 = 0.0, rise0 = 0.0, rate1 = 0.0, rise1 = 0.0;
    for (std::size_t i = 0; i < live_.size(); ++i) {
      rate0 += live_[i].rate;
      rise0 += live_[i].rate * live_[i].growth();
      rate1 += to[i].rate;
      rise1 += to[i].rate * to[i].growth();
    }
    const double mass = 0.5 * depth * (rate0 + rate1) + depth * depth / 12.0 * (rise0 - rise1);
    if (round == 4 || std::fabs(mass - width) < 0.02 * width) break;
    double change = (width - mass) / rate1;
    change = std::min(std::max(change, -0.6 * depth), 0.0 * depth + depth);
    depth += change;
    // A deeper cell may be too deep for some; the next round of the march would not see them.
    if (change > 0.0) {
      std::size_t stay = 0;
      for (const LiveArm& live : live_) {
        if (too_fast(live, depth)) {
          become_head(live.arm);
          joined_ = false;
        } else {
          live_[stay++] = live;
        }
      }
      live_.resize(stay);
      if (live_.empty()) return false;
    }
  }
  close_cell(to, depth, width);
  return true;
}

void RaceBuilder::advance(double depth, std::vector<LiveArm>& to) const {
  const Level next = level(y_ - depth);
  to.resize(live_.size());
  for (std::size_t i = 0; i < live_.size(); ++i) {
    const LiveArm& from = live_[i];
    LiveArm& at = to[i];
    at.arm = from.arm;
    const Local end = local(from.arm, next);
    at.density = end.density;
    at.slope = end.slope;
    at.curve = end.curve;
    // Mass between: the quintic through density and two derivatives at both ends, in parts where it is narrow.
    const auto between = [](const Local& up, const Local& down, double d) {
      const double up1 = up.density * up.slope, down1 = down.density * down.slope;
      const double up2 = up.density * (up.slope * up.slope - up.curve);
      const double down2 = down.density * (down.slope * down.slope - down.curve);
      return d / 2 * (up.density + down.density) + d * d / 10 * (up1 - down1) + d * d * d / 120 * (up2 + down2);
    };
    const Local start{from.density, from.slope, from.curve};
    const double wide = depth * std::sqrt(std::max(from.curve, end.curve));
    const double steep = depth * std::max(std::fabs(from.slope), std::fabs(end.slope));
    int parts = 1;
    if (from.above > 1e-7 || end.density * depth > 1e-7) {
      parts = std::max(1, static_cast<int>(std::ceil(std::max(wide / 0.4, steep / 0.8))));
    }
    double mass = 0.0;
    Local up = start;
    for (int part = 1; part <= parts; ++part) {
      const Local down = part == parts ? end : local(from.arm, level(y_ - depth * part / parts));
      mass += between(up, down, depth / parts);
      up = down;
    }
    at.above = std::min(from.above + mass, 1.0 - 1e-12);
    at.rate = at.density / (1.0 - at.above);
  }
}

void RaceBuilder::close_cell(const std::vector<LiveArm>& to, double depth, double width) {
  const std::size_t cell = plan_.size();
  plan_.push_back({member_.size(), live_.size(), joined_});
  RaceShape shape{};
  shape.top = y_;
  shape.depth = depth;
  shape.start = time_;
  shape.width = width;
  for (std::size_t i = 0; i < live_.size(); ++i) {
    Member member{};
    member.arm = live_[i].arm;
    member.rate[0] = static_cast<float>(live_[i].rate);
    member.rate[1] = static_cast<float>(to[i].rate);
    shape.left_rate += member.rate[0];
    shape.right_rate += member.rate[1];
    member_.push_back(member);
  }
  if (joined_) t_.shape_[cell - 1].right_rate = shape.left_rate;  // one table serves both
  t_.shape_.push_back(shape);
  t_.cell_.emplace_back();
  live_ = to;
  joined_ = true;
  y_ -= depth;
  time_ += width;
  h_ = cell_end(h_, shift_);
}

// How far the true rates of a cell's arms are from the lines between its knots.
void RaceBuilder::measure(std::size_t cell) {
  RaceShape& shape = t_.shape_[cell];
  shape.left_slope = shape.width / (shape.left_rate * shape.depth);
  shape.right_slope = shape.width / (shape.right_rate * shape.depth);
  const double m0 = shape.left_slope, m1 = shape.right_slope;
  const Level top = level(shape.top), under = level(shape.top - shape.depth);
  double share[3], speed[3];
  for (int k = 0; k < 3; ++k) {
    share[k] = depth_share(m0, m1, 0.25 * (k + 1));
    speed[k] = depth_share_slope(m0, m1, 0.25 * (k + 1)) * shape.depth / shape.width;
  }
  for (std::size_t i = 0; i < plan_[cell].count; ++i) {
    Member& member = member_[plan_[cell].first + i];
    const Local up = bend(member.arm, top), down = bend(member.arm, under);
    const LogRate log_rate(member.rate[0], up.slope, up.curve, member.rate[1], down.slope, down.curve, shape.depth);
    double least = 1.0, most = 1.0;
    for (int k = 0; k < 3; ++k) {
      const double s = 0.25 * (k + 1);
      const double line = (1.0 - s) * member.rate[0] / shape.left_rate + s * member.rate[1] / shape.right_rate;
      const double ratio = exponential(log_rate.at(share[k])) * speed[k] / line;
      least = std::min(least, ratio);
      most = std::max(most, ratio);
    }
    // The extremes lie between the places looked at.
    member.least = static_cast<float>(std::max(0.0, 1.0 - 1.2 * (1.0 - least) - 1e-4));
    member.most = static_cast<float>(1.0 + 1.15 * (most - 1.0) + 1e-6);
    const double lift = std::ceil((member.most - 1.0) * 256.0);
    member.lift[0] = member.lift[1] = static_cast<std::uint8_t>(std::min(lift, 255.0));
  }
}

void RaceBuilder::fill_tables() {
  const std::size_t cells = plan_.size();
  for (std::size_t cell = 0; cell < cells; ++cell) measure(cell);
  // An arm has one lift a knot.
  for (std::size_t cell = 1; cell < cells; ++cell) {
    std::size_t left = plan_[cell - 1].first;
    const std::size_t left_end = left + plan_[cell - 1].count;
    for (std::size_t i = 0; i < plan_[cell].count && left < left_end; ++i) {
      Member& member = member_[plan_[cell].first + i];
      while (left < left_end && member_[left].arm != member.arm && !plan_[cell].joined) ++left;
      if (left == left_end) break;
      if (member_[left].arm != member.arm) break;
      member.lift[0] = member_[left].lift[1] = std::max(member.lift[0], member_[left].lift[1]);
      ++left;
    }
  }
  for (Member& member : member_) {
    const double lift = 1.0 + std::max(member.lift[0], member.lift[1]) / 256.0;
    member.sure = static_cast<std::uint16_t>(std::min(65535.0, std::floor(65536.0 * member.least / lift)));
  }
  double most = 1.0;
  for (std::size_t cell = 0; cell < cells; ++cell) {
    for (int side = 0; side < 2; ++side) {
      double sum = 0.0;
      for (std::size_t i = 0; i < plan_[cell].count; ++i) {
        const Member& member = member_[plan_[cell].first + i];
        sum += member.rate[side] * (1.0 + member.lift[side] / 256.0);
      }
      most = std::max(most, sum / (side ? t_.shape_[cell].right_rate : t_.shape_[cell].left_rate));
    }
  }
  t_.race_.pace = 1.0 / most;
  // One table a knot where the cell before it has the same arms, or fewer; else one for each side.
  for (std::size_t cell = 0; cell < cells; ++cell) {
    const auto c = static_cast<std::ptrdiff_t>(cell);
    const bool shared = plan_[cell].joined;
    fill_table(t_.cell_[cell].knot[0], cell, shared ? c - 1 : -1, c);
    if (shared) t_.cell_[cell - 1].knot[1] = t_.cell_[cell].knot[0];
    if (cell + 1 == cells || !plan_[cell + 1].joined) fill_table(t_.cell_[cell].knot[1], cell + 1, c, -1);
  }
  // Rates and lifts, arm by arm.
  std::vector<std::uint32_t> count(n_, 0);
  for (const FirstRate& first : first_rate_) count[first.arm] = 1;
  for (const Member& member : member_) ++count[member.arm];
  std::uint64_t sum = 0;
  for (std::int64_t arm = 0; arm < n_; ++arm) {
    t_.knots_[arm] = static_cast<std::uint32_t>(sum);
    sum += count[arm];
  }
  if (sum > 0xfffffff0u || t_.slot_.size() > 0xfffffff0u) throw std::length_error("race tables");
  t_.rate_.assign(sum, 0.0f);
  t_.lift_.assign(sum, 0);
  for (const FirstRate& first : first_rate_) t_.rate_[t_.knots_[first.arm]] = first.rate;
  for (const Member& member : member_) {
    const std::uint32_t at = t_.knots_[member.arm] + t_.stays_[member.arm];
    for (int side = 0; side < 2; ++side) {
      t_.rate_[at + side] = member.rate[side];
      t_.lift_[at + side] = member.lift[side];
    }
    ++t_.stays_[member.arm];
  }
}

void RaceBuilder::fill_table(RaceTable& table, std::size_t knot, std::ptrdiff_t left, std::ptrdiff_t right) {
  // The arms are those of the cell on the right, if there is one: it has all of the left one's, in the same order.
  const std::size_t cell = right >= 0 ? right : left;
  const int side = right >= 0 ? 0 : 1;
  const std::size_t first = plan_[cell].first, count = plan_[cell].count;
  const std::size_t shared = right >= 0 && left >= 0 ? plan_[left].count : 0;
  const double whole = side ? t_.shape_[cell].right_rate : t_.shape_[cell].left_rate;
  const double pace = t_.race_.pace;
  (void)knot;
  std::vector<double>& p = alias_.weights(count + 1);
  double sum = 0.0;
  for (std::size_t i = 0; i < count; ++i) {
    const Member& member = member_[first + i];
    p[i] = member.rate[side] * (1.0 + member.lift[side] / 256.0) / whole * pace;
    sum += p[i];
  }
  p[count] = std::max(0.0, 1.0 - sum);
  alias_.make(count + 1);
  table.first = static_cast<std::uint32_t>(t_.slot_.size());
  table.size = static_cast<std::uint32_t>(count + 1);
  const auto arm_of = [&](std::size_t i) { return i < count ? member_[first + i].arm : kNoArm; };
  const auto sure_of = [&](std::size_t i) -> std::uint16_t {
    if (i >= count) return 65535;
    std::uint16_t sure = member_[first + i].sure;
    if (right >= 0 && left >= 0) sure = i < shared ? std::min(sure, member_[plan_[left].first + i].sure) : 0;
    return sure;
  };
  for (std::size_t i = 0; i <= count; ++i) {
    const std::size_t other = alias_.alias(i);
    t_.slot_.push_back({alias_.threshold(i), arm_of(i), arm_of(other), sure_of(i), sure_of(other)});
  }
}

void RaceBuilder::fill_rest() {
  std::vector<double>& mass = alias_.weights(n_);
  std::vector<Level> levels;
  for (const double y : t_.entry_) levels.push_back(level(y));
  double sum = 0.0;
  for (std::int64_t arm = 0; arm < n_; ++arm) {
    double chance = 0.0;
    const Level& at = levels[t_.level_[arm]];
    const bool inside = !t_.race_.weighted || at.y < t_.log_weight_[arm];
    if (inside) {
      const Local here = local(static_cast<std::uint32_t>(arm), at);
      // Arms that entered know their rate; for the others F is 1 but for some 1e-6 of an already rare point.
      const bool entered = t_.level_[arm] + 1u < t_.entry_.size();
      const double rate = entered ? static_cast<double>(t_.rate_[t_.knots_[arm]]) : here.density;
      if (here.slope > 0.0) chance = rate / here.slope;
    }
    mass[arm] = chance;
    sum += chance;
  }
  t_.race_.rest = sum;
  t_.rest_.resize(n_);
  if (sum > 0.0) {
    alias_.make(n_);
    for (std::int64_t arm = 0; arm < n_; ++arm) {
      t_.rest_[arm] = {alias_.threshold(arm), static_cast<std::uint32_t>(alias_.alias(arm))};
    }
  }
}

void RaceBuilder::publish() {
  t_.slot_.shrink_to_fit();
  Race& race = t_.race_;
  race.cells = static_cast<std::int64_t>(t_.cell_.size());
  if (!t_.cell_.empty()) t_.cell_.push_back(t_.cell_.back());  // time + offset may round up to the very end
  race.phases = static_cast<std::int64_t>(t_.phase_.size());
  race.heads = static_cast<std::int64_t>(t_.head_.size());
  race.end = race.cells ? time_ : 0.0;
  race.bottom = y_;
  race.cell = t_.cell_.data();
  race.phase = t_.phase_.data();
  race.slot = t_.slot_.data();
  race.shape = t_.shape_.data();
  for (std::int64_t which = 0; which < std::min(race.heads, kReadyHeads); ++which) {
    const RaceHead& head = t_.head_[which];
    t_.head_draw_.push_back(image_of(law(head.arm).below(head.bound)));
  }
  race.head = t_.head_.data();
  race.head_draw = t_.head_draw_.data();
  race.rest_slot = t_.rest_.data();
  race.entry = t_.entry_.data();
  race.level = t_.level_.data();
  race.levels = static_cast<std::int64_t>(t_.entry_.size());
  race.enters = t_.enters_.data();
  race.stays = t_.stays_.data();
  race.knots = t_.knots_.data();
  race.rate = t_.rate_.data();
  race.lift = t_.lift_.data();
  race.is_head = t_.is_head_.data();
}

RaceTables::RaceTables(const double* a, const double* b, const double* weight, std::int64_t n) {
  RaceBuilder(*this, a, b, weight, n).build();
}

std::size_t RaceTables::bytes() const {
  const auto of = [](const auto& column) { return column.capacity() * sizeof(column[0]); };
  return sizeof(*this) + of(a_) + of(b_) + of(log_weight_) + of(entry_) + of(cell_) + of(shape_) + of(phase_) +
         of(slot_) + of(head_) + of(head_draw_) + of(rest_) + of(enters_) + of(level_) + of(stays_) + of(knots_) + of(rate_) + of(lift_) +
         of(is_head_);
}

}  // namespace banditcore

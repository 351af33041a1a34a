#define BANDITCORE_LANES 1
#include <cmath>

#include "race/fill.h"
#include "race/march.h"
#include "race/tables.h"

namespace banditcore {
namespace {

constexpr double kSmallRest = 0.05;  // expected number of points above the entries of all arms, at most
constexpr double kMostRestAnArm = 0.005;

}  // namespace

RaceTables::RaceTables(const double* a, const double* b, const double* weight, std::int64_t n,
                       const RaceColumns& columns, bool (*stopped)())
    : enters_(n), stays_(n), level_(n), knots_(n), is_head_((n + 7) / 8) {
  bool weighted = false;
  if (weight) {
    for (std::int64_t i = 1; i < n; ++i) weighted |= weight[i] != weight[0];
  }
  if (weighted) {
    log_weight_.resize(n);
    for (std::int64_t i = 0; i < n; ++i) log_weight_[i] = std::log(weight[i]);
  }
  race_.size = n;
  race_.weighted = weighted;
  race_.a = a;
  race_.b = b;
  race_.log_weight = log_weight_.data();

  RaceArms arms(race_);
  RacePlan plan;
  RacePatience patience(stopped);
  {
    const double enough = kSmallRest / static_cast<double>(n);
    const RaceEntries entries = find_entries(arms, columns, enough < kMostRestAnArm ? enough : kMostRestAnArm);
    RaceMarch(arms, entries, columns, plan, level_.data(), enters_.data(), patience).run();
  }
  for (const RaceHead& head : plan.head) is_head_[head.arm >> 3] |= static_cast<std::uint8_t>(1u << (head.arm & 7));
  AliasMaker alias;
  RaceFill fill(plan, alias, patience);
  race_.pace = fill.tables(cell_, slot_);
  fill.columns(rate_, lift_, enters_.data(), stays_.data(), knots_.data());
  shape_.assign(plan.shape.begin(), plan.shape.end());
  phase_.assign(plan.phase.begin(), plan.phase.end());
  head_.assign(plan.head.begin(), plan.head.end());
  entry_.assign(plan.entry.begin(), plan.entry.end());
  fill_rest(arms, alias);

  race_.cells = static_cast<std::int64_t>(cell_.size());
  if (!cell_.empty()) cell_.push_back(cell_.back());  // time + offset may round up to the very end
  race_.phases = static_cast<std::int64_t>(phase_.size());
  race_.heads = static_cast<std::int64_t>(head_.size());
  race_.end = race_.cells ? plan.time : 0.0;
  race_.bottom = plan.y;
  race_.cell = cell_.data();
  race_.phase = phase_.data();
  race_.slot = slot_.data();
  race_.shape = shape_.data();
  race_.head = head_.data();
  for (std::int64_t which = 0; which < race_.heads && which < kReadyHeads; ++which) {
    head_draw_.push_back(image_of(AxisLaw(race_, head_[which].arm).below(head_[which].bound)));
  }
  race_.head_draw = head_draw_.data();
  race_.rest_slot = rest_.data();
  race_.entry = entry_.data();
  race_.level = level_.data();
  race_.levels = static_cast<std::int64_t>(entry_.size());
  race_.enters = enters_.data();
  race_.stays = stays_.data();
  race_.knots = knots_.data();
  race_.rate = rate_.data();
  race_.lift = lift_.data();
  race_.is_head = is_head_.data();
}

// Which arm a point above the entries belongs to, by the envelopes.
void RaceTables::fill_rest(const RaceArms& arms, AliasMaker& alias) {
  const std::int64_t n = race_.size;
  double* const mass = alias.weights(static_cast<std::size_t>(n));
  std::vector<RaceLevel> levels;
  for (const double y : entry_) levels.push_back(race_level(y));
  double sum = 0.0;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto arm = static_cast<std::uint32_t>(i);
    double chance = 0.0;
    const RaceLevel& at = levels[level_[i]];
    if (!race_.weighted || at.y < log_weight_[i]) {
      // Arms that entered know their rate; for the others F is 1 but for some 1e-6 of an already rare point.
      const bool entered = level_[i] + 1u < entry_.size();
      const RaceLocal here = entered ? arms.bend(arm, at) : arms.local(arm, at);
      const double rate = entered ? static_cast<double>(rate_[knots_[i]]) : here.density;
      if (here.slope > 0.0) chance = rate / here.slope;
    }
    mass[i] = chance;
    sum += chance;
  }
  race_.rest = sum;
  rest_.resize(n);
  if (!(sum > 0.0)) return;
  alias.make(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    rest_[i] = {alias.threshold(i), static_cast<std::uint32_t>(alias.alias(i))};
  }
}

std::size_t RaceTables::bytes() const {
  const auto of = [](const auto& column) { return column.capacity() * sizeof(column[0]); };
  return sizeof(*this) + of(log_weight_) + of(entry_) + of(cell_) + of(shape_) + of(phase_) + of(slot_) + of(head_) +
         of(head_draw_) + of(rest_) + of(enters_) + of(level_) + of(stays_) + of(knots_) + of(rate_) + of(lift_) +
         of(is_head_);
}

}  // namespace banditcore

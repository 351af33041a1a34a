// What a row of a race draws where its tables do not decide alone.
#pragma once

#include "race/points.h"

namespace {

class RowDraws {
 public:
  RowDraws(const Race& race, StreamKey key, std::uint64_t row) : race_(race), key_(key), row_(row) {}

  // Whether a point in doubt stays.
  __attribute__((noinline)) bool keep(const Batch& batch, std::uint32_t first, int j,
                                      const banditcore::RacePhase& phase, std::uint32_t arm) const {
    if (arm == kNoArm) return false;
    const Place place(phase, batch.wait[j]);
    const std::int64_t since = place.cell - race_.enters[arm];
    if (since < 0 || since >= race_.stays[arm]) return false;
    const double s = place.share;
    const banditcore::RaceShape& shape = race_.shape[place.cell];
    const std::uint32_t at = race_.knots[arm] + static_cast<std::uint32_t>(since);
    const AxisLaw law(race_, arm);
    const double rate0 = race_.rate[at], rate1 = race_.rate[at + 1];
    const double under = shape.top - shape.depth;
    const double v = depth_share(shape.left_slope, shape.right_slope, s);
    const LogRate log_rate(rate0, law.slope(shape.top), law.curvature(shape.top), rate1, law.slope(under),
                           law.curvature(under), shape.depth);
    const double line = (1.0 - s) * rate0 * (1.0 + race_.lift[at] * 0x1p-8) / shape.left_rate +
                        s * rate1 * (1.0 + race_.lift[at + 1] * 0x1p-8) / shape.right_rate;
    const double speed =
        shape.depth / shape.width * depth_share_slope(shape.left_slope, shape.right_slope, s);
    UniformStream more(first + j, row_, kRacePoint, 1, key_);
    const double u = ((batch.last[j] & 0xffffu) + more()) * 0x1p-16;
    return u * line < exponential(log_rate.at(v)) * speed;
  }

  // The y of the point at a time.
  double y_at(const banditcore::RacePhase& phase, double time) const {
    const Place place(phase, time);
    const banditcore::RaceShape& shape = race_.shape[place.cell];
    return shape.top - shape.depth * depth_share(shape.left_slope, shape.right_slope, place.share);
  }

  // Whether the proposal of a point above the entry of an arm is one; then `point` is it.
  __attribute__((noinline)) bool rest(const Batch& batch, std::uint32_t first, int j, RacePending* point) const {
    const auto product = static_cast<unsigned __int128>(batch.pick[j]) * static_cast<std::uint64_t>(race_.size);
    auto arm = static_cast<std::uint32_t>(product >> 64);
    const banditcore::RaceRest& slot = race_.rest_slot[arm];
    if (static_cast<std::uint32_t>(static_cast<std::uint64_t>(product) >> 32) >= slot.threshold) arm = slot.alias;
    if (arm == kNoArm) return false;
    const AxisLaw law(race_, arm);
    const std::uint16_t level = race_.level[arm];
    const double entry = race_.entry[level];
    const double rate = law.slope(entry), drop = law.drop(entry);
    UniformStream more(first + j, row_, kRacePoint, 1, key_);
    const double fall = -logarithm(more());
    const double y = entry + fall / rate;
    const double share = exponential(fall - (law.drop(y) - drop));
    const double u = more();
    if (u >= share) return false;
    if (level + 1 < race_.levels) {
      // The rate is density / F: closer to the envelope where F is smaller.
      const double chance = race_.rate[race_.knots[arm]];
      const double least = 1.0 / (1.0 + chance / rate);
      if (u >= share * least) {
        const double below = 1.0 / (1.0 + chance * law.mills(entry));
        const double above = below * chance * exponential(drop - law.drop(y)) * law.mills(y);
        if (u >= share * below / (1.0 - above)) return false;
      }
    }
    *point = {y, arm};
    return true;
  }

  // The point of a head that has left the tables.
  __attribute__((noinline)) RacePending head(std::int64_t which) const {
    const banditcore::RaceHead& head = race_.head[which];
    UniformStream uniform(head.arm, row_, kRaceArm, 0, key_);
    double y;
    if (which < banditcore::kReadyHeads) {
      y = ready_draw(race_.head_draw[which])(uniform);
      if (race_.weighted) y = race_.log_weight[head.arm] + log_expit(y);
    } else {
      y = drawn(head.arm, head.bound, uniform);
    }
    return {y, head.arm};
  }

  // The value of an arm below the last knot.
  double below(std::uint32_t arm) const {
    UniformStream uniform(arm, row_, kRaceArm, 0, key_);
    return drawn(arm, race_.bottom, uniform);
  }

 private:
  struct Place {
    Place(const banditcore::RacePhase& phase, double time) {
      const std::uint64_t bits = bits_of(time + phase.offset);
      cell = static_cast<std::int64_t>(bits >> phase.shift) - phase.base;
      share = float_of(0x3FF0000000000000u | ((bits << (64 - phase.shift)) >> 12)) - 1.0;
    }
    std::int64_t cell;
    double share;  // of the cell's width that has passed
  };

  double drawn(std::uint32_t arm, double bound, UniformStream& uniform) const {
    const AxisLaw law(race_, arm);
    return law.of_logit(law.below(bound)(uniform));
  }

  const Race& race_;
  StreamKey key_;
  std::uint64_t row_;
};

}  // namespace

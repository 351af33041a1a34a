// Compares the arms' rates in a cell with the lines between its knots.
#define BANDITCORE_LANES 1
#include "race/march.h"

namespace banditcore {

// How far the true rates of the last cell's arms are from the lines between its knots. The columns still begin with
// those arms.
void RaceMarch::measure_last() {
  const RacePlan::Cell& cell = plan_.cell.back();
  RaceShape& shape = plan_.shape.back();
  const double m0 = shape.left_slope = shape.width / (shape.left_rate * shape.depth);
  const double m1 = shape.right_slope = shape.width / (shape.right_rate * shape.depth);
  RaceSpan span{};
  span.count = static_cast<std::int64_t>((cell.count + kColumnStep - 1) / kColumnStep * kColumnStep);
  span.rate0 = plan_.rate0.data() + cell.first;
  span.rate1 = plan_.rate1.data() + cell.first;
  const RaceLive live = live_.columns();
  span.a = live.a;
  span.b = live.b;
  span.top = race_level(shape.top);
  span.under = race_level(shape.top - shape.depth);
  span.depth = shape.depth;
  for (int k = 0; k < 3; ++k) {
    span.share[k] = depth_share(m0, m1, 0.25 * (k + 1));
    span.speed[k] = depth_share_slope(m0, m1, 0.25 * (k + 1)) * shape.depth / shape.width;
  }
  span.left_rate = shape.left_rate;
  span.right_rate = shape.right_rate;
  lift_.resize(static_cast<std::size_t>(span.count));
  span.least = plan_.least.data() + cell.first;
  span.lift = lift_.data();
  if (!arms_.plain()) {
    bends_.resize(4 * static_cast<std::size_t>(span.count));
    double* bend = bends_.data();
    for (std::size_t i = 0; i < cell.count; ++i) {
      const RaceLocal up = arms_.bend(plan_.arm[cell.first + i], span.top);
      const RaceLocal down = arms_.bend(plan_.arm[cell.first + i], span.under);
      bend[i] = up.slope;
      bend[i + span.count] = up.curve;
      bend[i + 2 * span.count] = down.slope;
      bend[i + 3 * span.count] = down.curve;
    }
    span.bends = bend;
  }
  columns_.measure(span);
  std::uint8_t* lift = plan_.lift.data() + cell.first;
  for (std::size_t i = 0; i < cell.count; ++i) {
    lift[i] = static_cast<std::uint8_t>(static_cast<int>(lift_[i] < 255.0f ? lift_[i] : 255.0f));
  }
  unmeasured_ = false;
}

}  // namespace banditcore

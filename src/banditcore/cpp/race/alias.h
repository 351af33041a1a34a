// Alias tables: A. J. Walker (ACM TOMS 3, 1977), built by M. Vose's method (IEEE TSE 17, 1991).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace banditcore {

class AliasMaker {
 public:
  // `size` places to be filled with weights >= 0, not all 0.
  double* weights(std::size_t size) {
    if (weight_.size() < size) weight_.resize(size);
    return weight_.data();
  }
  void make(std::size_t size) {
    double sum = 0.0;
    for (std::size_t i = 0; i < size; ++i) sum += weight_[i];
    const double scale = static_cast<double>(size) / sum;
    order_.resize(size);
    alias_.resize(size);
    threshold_.resize(size);
    std::size_t light = 0, heavy = size;  // two stacks, growing towards each other
    for (std::size_t i = 0; i < size; ++i) {
      weight_[i] *= scale;
      // Both stacks are written to and one kept: a branch here would often be guessed wrong.
      const bool is_light = weight_[i] < 1.0;
      order_[light] = order_[heavy - 1] = static_cast<std::uint32_t>(i);
      light += is_light;
      heavy -= !is_light;
    }
    while (light > 0 && heavy < size) {
      const std::uint32_t small = order_[--light], large = order_[heavy];
      threshold_[small] = static_cast<std::uint32_t>(weight_[small] * 4294967295.0 + 0.5);
      alias_[small] = large;
      weight_[large] -= 1.0 - weight_[small];
      if (weight_[large] < 1.0) {
        ++heavy;
        order_[light++] = large;
      }
    }
    while (light > 0) fill(order_[--light]);
    while (heavy < size) fill(order_[heavy++]);
  }
  std::uint32_t threshold(std::size_t i) const { return threshold_[i]; }
  std::size_t alias(std::size_t i) const { return alias_[i]; }

 private:
  void fill(std::uint32_t i) {  // full but for rounding
    threshold_[i] = 0xffffffffu;
    alias_[i] = i;
  }

  std::vector<double> weight_;
  std::vector<std::uint32_t> order_, alias_, threshold_;
};

}  // namespace banditcore

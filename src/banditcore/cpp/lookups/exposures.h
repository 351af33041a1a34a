// Which arms a user may not be shown: exposures, each an arm's hash above a time, against caps.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace banditcore {

// So many exposures of an age up to `oldest` forbid an arm.
struct ExposureCap {
  std::int64_t times;  // >= 1
  std::uint64_t oldest;
};

// What an exposure's bits mean. Ages are counted from `latest`, modulo time_mask + 1.
struct ExposureClock {
  std::uint64_t time_mask;
  std::uint64_t latest;
};

// Sorts exposures and puts the hashes of forbidden arms, ascending, in their place; returns how
// many these are. Equal exposures are one.
inline std::size_t forbid(std::uint64_t* exposures, std::size_t n, const ExposureCap* caps,
                          std::size_t n_caps, const ExposureClock& clock) noexcept {
  std::sort(exposures, exposures + n);
  n = static_cast<std::size_t>(std::unique(exposures, exposures + n) - exposures);
  std::size_t found = 0;
  for (std::size_t begin = 0, end; begin < n; begin = end) {
    const std::uint64_t hash = exposures[begin] & ~clock.time_mask;
    end = begin + 1;
    while (end < n && (exposures[end] & ~clock.time_mask) == hash) ++end;
    for (std::size_t c = 0; c < n_caps; ++c) {
      std::int64_t times = 0;
      for (std::size_t i = begin; i < end; ++i)
        times += ((clock.latest - exposures[i]) & clock.time_mask) <= caps[c].oldest;
      if (times >= caps[c].times) {
        exposures[found++] = hash;
        break;
      }
    }
  }
  return found;
}

// The same for rows of exposures, that of r ending before ends[r], which becomes where its hashes
// end: they stand without gaps from the beginning. Returns how many there are.
inline std::int64_t forbid_rows(std::uint64_t* exposures, std::int64_t* ends, std::size_t n_rows,
                                const ExposureCap* caps, std::size_t n_caps,
                                const ExposureClock& clock) noexcept {
  std::int64_t begin = 0, found = 0;
  for (std::size_t r = 0; r < n_rows; ++r) {
    const std::int64_t end = ends[r];
    const auto count = forbid(exposures + begin, static_cast<std::size_t>(end - begin), caps,
                              n_caps, clock);
    std::copy(exposures + begin, exposures + begin + count, exposures + found);
    found += static_cast<std::int64_t>(count);
    ends[r] = found;
    begin = end;
  }
  return found;
}

}  // namespace banditcore

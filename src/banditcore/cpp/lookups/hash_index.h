// Places by 64-bit hashes, of which the upper bits are evenly spread. Two places may share a hash.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace banditcore {

class HashIndex {
 public:
  // hashes[i] is that of place i; fewer than 2^31 of them.
  void build(const std::uint64_t* hashes, std::size_t n) {
    std::vector<std::pair<std::uint64_t, std::int32_t>> entries(n);
    for (std::size_t i = 0; i < n; ++i) entries[i] = {hashes[i], static_cast<std::int32_t>(i)};
    std::sort(entries.begin(), entries.end());
    hashes_.resize(n);
    places_.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      hashes_[i] = entries[i].first;
      places_[i] = entries[i].second;
    }
    int bits = 1;
    while (std::size_t{1} << (bits + 1) <= n) ++bits;
    shift_ = 64 - bits;
    begins_.assign((std::size_t{1} << bits) + 1, 0);
    for (std::uint64_t hash : hashes_) ++begins_[(hash >> shift_) + 1];
    for (std::size_t i = 1; i < begins_.size(); ++i) begins_[i] += begins_[i - 1];
  }

  // Calls found(place) for each place that has this hash, in ascending order. A bucket holds one
  // or two hashes; whoever chooses ids to fill one makes it no slower than bisection.
  template <class Found>
  void find(std::uint64_t hash, Found&& found) const {
    const std::size_t bucket = hash >> shift_;
    const auto end = hashes_.begin() + begins_[bucket + 1];
    auto at = std::lower_bound(hashes_.begin() + begins_[bucket], end, hash);
    for (; at != end && *at == hash; ++at) found(places_[at - hashes_.begin()]);
  }

  // Appends, for each row r of `rows` in turn, the places that have one of the row's hashes,
  // hashes[starts[r]..starts[r + 1]); none for a negative r. ends[i] is where those of rows[i]
  // end.
  void find_rows(const std::int64_t* starts, const std::uint64_t* hashes,
                 const std::int64_t* rows, std::size_t n_rows, std::vector<std::int32_t>& places,
                 std::int64_t* ends) const {
    for (std::size_t i = 0; i < n_rows; ++i) {
      if (rows[i] >= 0)
        for (std::int64_t j = starts[rows[i]]; j < starts[rows[i] + 1]; ++j)
          find(hashes[j], [&](std::int32_t place) { places.push_back(place); });
      ends[i] = static_cast<std::int64_t>(places.size());
    }
  }

  std::size_t bytes() const noexcept {
    return hashes_.size() * (sizeof(std::uint64_t) + sizeof(std::int32_t)) +
           begins_.size() * sizeof(std::uint32_t);
  }

 private:
  std::vector<std::uint64_t> hashes_;  // ascending
  std::vector<std::int32_t> places_;
  std::vector<std::uint32_t> begins_ = {0, 0, 0};  // of buckets, by upper bits
  int shift_ = 63;
};

}  // namespace banditcore

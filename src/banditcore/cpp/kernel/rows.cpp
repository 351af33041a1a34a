#include "kernel/rows.h"

#include <algorithm>

#include "runtime/pool.h"

namespace banditcore {
namespace {

constexpr std::int64_t kMostUnitRows = 128;  // of a top-k: its heaps should stay in the cache

// One thread needs no parts, each of which prepares the arms again.
std::int64_t unit_draws(int threads, std::int64_t block) { return threads == 1 ? block : std::min(kUnitDraws, block); }
std::int64_t parts(int threads) { return threads == 1 ? 1 : 4 * threads; }

std::int64_t units(std::int64_t whole, std::int64_t unit) { return (whole + unit - 1) / unit; }

}  // namespace

Fill::Fill(const Kernel& kernel, const Arms& arms, StreamKey key, std::uint64_t first_row, std::int64_t rows,
           int threads, std::int64_t block, Draws draws, double* out)
    : kernel_(kernel), arms_(arms), key_(key), first_row_(first_row), rows_(rows), threads_(threads), draws_(draws),
      out_(out) {
  const std::int64_t unit = unit_draws(threads, block);
  unit_rows_ = std::clamp<std::int64_t>(unit / arms.size, 1, std::max<std::int64_t>(1, units(rows, parts(threads))));
  unit_arms_ = unit_rows_ > 1 ? arms.size : std::min(arms.size, unit);
  row_units_ = units(rows, unit_rows_);
  arm_units_ = units(arms.size, unit_arms_);
  block_units_ = std::max<std::int64_t>(1, block / (unit_rows_ * unit_arms_)) * threads;
}

bool Fill::advance() noexcept {
  const std::int64_t end = std::min(next_ + block_units_, row_units_ * arm_units_);
  share(next_, end, threads_, [this](int, std::int64_t unit) {
    const std::int64_t row = unit / arm_units_ * unit_rows_, arm = unit % arm_units_ * unit_arms_;
    const Cells cells = {first_row_, row, std::min(row + unit_rows_, rows_), arm,
                         std::min(arm + unit_arms_, arms_.size)};
    kernel_.fill(arms_, key_, cells, draws_, out_);
  });
  next_ = end;
  return next_ < row_units_ * arm_units_;
}

Ranks::Ranks(const Kernel& kernel, const Arms& arms, StreamKey key, std::uint64_t first_row, std::int64_t rows,
             std::int64_t k, int threads, std::int64_t block, std::int32_t* out)
    : kernel_(kernel), arms_(arms), key_(key), first_row_(first_row), rows_(rows), k_(k), threads_(threads), out_(out) {
  const std::int64_t unit = unit_draws(threads, block), kept = std::min(k, arms.size);
  unit_rows_ = std::clamp<std::int64_t>(unit / arms.size, 1,
                                        std::clamp<std::int64_t>(units(rows, parts(threads)), 1, kMostUnitRows));
  unit_arms_ = unit_rows_ > 1 ? arms.size : std::min(arms.size, unit);
  row_units_ = units(rows, unit_rows_);
  arm_units_ = units(arms.size, unit_arms_);
  block_units_ = std::max<std::int64_t>(1, block / (unit_rows_ * unit_arms_)) * threads;
  tops_.reset(new TopK[threads * unit_rows_]);
  candidates_.reset(new Candidate[threads * unit_rows_ * kept]);
  for (std::int64_t at = 0; at < threads * unit_rows_; ++at) tops_[at] = {candidates_.get() + at * kept, kept, 0};
}

void Ranks::whole_rows(int thread, std::int64_t unit) noexcept {
  TopK* const tops = tops_.get() + thread * unit_rows_;
  const Cells cells = {first_row_, unit * unit_rows_, std::min((unit + 1) * unit_rows_, rows_), 0, arms_.size};
  kernel_.scan(arms_, key_, cells, tops);
  for (std::int64_t row = cells.row_begin; row < cells.row_end; ++row) {
    kernel_.finish(tops[row - cells.row_begin], key_, first_row_ + static_cast<std::uint64_t>(row), k_,
                   out_ + row * k_);
  }
}

void Ranks::part_of_row(int thread, std::int64_t unit) noexcept {
  const std::int64_t row = unit / arm_units_, arm = unit % arm_units_ * unit_arms_;
  const Cells cells = {first_row_, row, row + 1, arm, std::min(arm + unit_arms_, arms_.size)};
  kernel_.scan(arms_, key_, cells, tops_.get() + thread);
}

bool Ranks::advance() noexcept {
  if (arm_units_ == 1) {
    const std::int64_t end = std::min(next_ + block_units_, row_units_);
    share(next_, end, threads_, [this](int thread, std::int64_t unit) { whole_rows(thread, unit); });
    next_ = end;
    return next_ < row_units_;
  }
  // A long row: its parts go to all threads, and the best of each thread are brought together at its end.
  const std::int64_t row = next_ / arm_units_, row_end = (row + 1) * arm_units_;
  const std::int64_t end = std::min(next_ + block_units_, row_end);
  share(next_, end, threads_, [this](int thread, std::int64_t unit) { part_of_row(thread, unit); });
  next_ = end;
  if (end == row_end) {
    const std::uint64_t number = first_row_ + static_cast<std::uint64_t>(row);
    for (int thread = 1; thread < threads_; ++thread) {
      kernel_.merge(tops_[thread], key_, number, tops_[0]);
      tops_[thread].count = 0;
    }
    kernel_.finish(tops_[0], key_, number, k_, out_ + row * k_);
  }
  return next_ < rows_ * arm_units_;
}

}  // namespace banditcore

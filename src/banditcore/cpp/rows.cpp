#include "rows.h"

#include <algorithm>
#include <atomic>
#include <system_error>
#include <thread>

namespace banditcore {
namespace {

// Calls work(thread, begin, end) over pieces of 0 .. rows until none is left. Threads live for one call: a pool
// would not survive a fork.
template <class Work>
void share_rows(std::int64_t rows, int threads, Work work) noexcept {
  const int wanted = static_cast<int>(std::min<std::int64_t>(threads, rows));
  if (wanted <= 1) {
    work(0, 0, rows);
    return;
  }
  const std::int64_t piece = std::max<std::int64_t>(1, rows / (8 * wanted));
  std::atomic<std::int64_t> next{0};
  const auto run = [&](int thread) {
    for (;;) {
      const std::int64_t begin = next.fetch_add(piece, std::memory_order_relaxed);
      if (begin >= rows) return;
      work(thread, begin, std::min(rows, begin + piece));
    }
  };
  constexpr int kMost = 256;
  std::thread others[kMost];
  int started = 0;
  try {
    for (int thread = 1; thread < std::min(wanted, kMost); ++thread) {
      others[started] = std::thread(run, thread);
      ++started;
    }
  } catch (const std::exception&) {
    // No thread or no memory for one: those that run, this one at least, take all pieces.
  }
  run(0);
  for (int thread = 0; thread < started; ++thread) others[thread].join();
}

}  // namespace

Columns::Columns(const Kernel& kernel, const double* a, const double* b, const double* weight,
                 const std::int32_t* arm, std::int64_t size) {
  const std::int64_t padded = (size + kPadding - 1) / kPadding * kPadding;
  arms_.size = size;
  arms_.padded = padded;
  arms_.weighted = weight != nullptr;
  floats_.reset(new double[9 * padded]);
  indices_.reset(new std::uint32_t[padded]);
  double** const columns[] = {&arms_.d_a, &arms_.c_a,       &arms_.inverse_a, &arms_.d_b,
                              &arms_.c_b, &arms_.inverse_b, &arms_.centre,    &arms_.log_weight,
                              &arms_.weight};
  double* at = floats_.get();
  for (double** column : columns) {
    *column = at;
    at += padded;
  }
  arms_.arm = indices_.get();
  for (std::int64_t place = 0; place < padded; ++place) {
    const bool real = place < size;
    arms_.arm[place] = static_cast<std::uint32_t>(real && arm ? arm[place] : place);
  }
  kernel.prepare(arms_, a, b, weight);
}

Heaps::Heaps(int threads, std::int64_t places)
    : threads_(threads), places_(places), heaps_(static_cast<std::size_t>(threads) * places) {}

void fill_rows(const Kernel& kernel, const Arms& arms, StreamKey key, std::uint64_t first, std::int64_t rows,
               int threads, Draws draws, double* out) noexcept {
  const auto fill = draws == Draws::rates ? kernel.fill_beta : kernel.fill_log_odds;
  share_rows(rows, threads, [=, &arms](int, std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) fill(arms, key, first + row, out + row * arms.size);
  });
}

void topk_rows(const Kernel& kernel, const Arms& arms, StreamKey key, std::uint64_t first, std::int64_t rows,
               std::int64_t k, Heaps& heaps, std::int32_t* out) noexcept {
  share_rows(rows, heaps.threads(), [&, key, first, k, out](int thread, std::int64_t begin, std::int64_t end) {
    Candidate* const heap = heaps.of(thread);
    for (std::int64_t row = begin; row < end; ++row) {
      kernel.topk(arms, key, first + row, k, heap, out + row * k);
    }
  });
}

}  // namespace banditcore

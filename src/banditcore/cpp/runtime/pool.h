// Threads that share units of work and live as long as the process.
#pragma once

#include <cstdint>

namespace banditcore {

constexpr std::int64_t kNoLimit = -1;

// Calls work(context, thread, unit) for begin <= unit < end, in this order, on up to `threads` threads of which the
// caller is number 0; returns when all that was begun is done. After `patience` nanoseconds no unit is begun, save the
// first. Returns the first unit that was not begun: `end` if none is left. A thread that cannot be started, or that
// serves another call, leaves its units to the rest: the caller alone gets through. No thread number is used by two
// threads at a time.
std::int64_t share_units(std::int64_t begin, std::int64_t end, int threads, std::int64_t patience,
                         void (*work)(void*, int, std::int64_t), void* context) noexcept;

// The pool as other compiled modules of the process get it. One that linked pool.cpp would have threads of its own.
struct PoolFunctions {
  decltype(&share_units) share;
  unsigned (*forks)() noexcept;  // as in process.h
};
extern const PoolFunctions pool_functions;

template <class Work>
std::int64_t share(const PoolFunctions& pool, std::int64_t begin, std::int64_t end, int threads, std::int64_t patience,
                   Work& work) noexcept {
  return pool.share(
      begin, end, threads, patience,
      [](void* context, int thread, std::int64_t unit) { (*static_cast<Work*>(context))(thread, unit); }, &work);
}

template <class Work>
void share(std::int64_t begin, std::int64_t end, int threads, Work work) noexcept {
  if (threads <= 1 || end - begin <= 1) {
    for (std::int64_t unit = begin; unit < end; ++unit) work(0, unit);
    return;
  }
  share(pool_functions, begin, end, threads, kNoLimit, work);
}

}  // namespace banditcore

// Threads that share units of work and live as long as the module.
#pragma once

#include <cstdint>

namespace banditcore {

// Calls work(context, thread, unit) for begin <= unit < end, on up to `threads` threads of which the caller is number 0;
// returns when all is done. A thread that cannot be started, or that serves another call, leaves its units to the rest:
// the caller alone gets through. No thread number is used by two threads at a time.
void share_units(std::int64_t begin, std::int64_t end, int threads, void (*work)(void*, int, std::int64_t),
                 void* context) noexcept;

template <class Work>
void share(std::int64_t begin, std::int64_t end, int threads, Work work) noexcept {
  if (threads <= 1 || end - begin <= 1) {
    for (std::int64_t unit = begin; unit < end; ++unit) work(0, unit);
    return;
  }
  share_units(
      begin, end, threads,
      [](void* context, int thread, std::int64_t unit) { (*static_cast<Work*>(context))(thread, unit); }, &work);
}

}  // namespace banditcore

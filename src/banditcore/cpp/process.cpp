#include "process.h"

#include <pthread.h>

#include <atomic>

namespace banditcore {
namespace {

std::atomic<unsigned> count{0};

}  // namespace

unsigned forks() noexcept {
  // pthread_atfork rather than Python's hook: a server written in C may fork without telling the interpreter first.
  static const int registered = pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1); });
  static_cast<void>(registered);
  return count.load(std::memory_order_relaxed);
}

}  // namespace banditcore

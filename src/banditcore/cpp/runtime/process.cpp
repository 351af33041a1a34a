#include "runtime/process.h"

#include <pthread.h>

#include <atomic>

namespace banditcore {
namespace {

std::atomic<unsigned> count{0};

// When the module is loaded, before there is a thread that could fork in the middle of it. pthread_atfork rather than
// Python's hook: a server written in C may fork without telling the interpreter first.
const int registered = pthread_atfork(nullptr, nullptr, [] { count.fetch_add(1); });

}  // namespace

unsigned forks() noexcept {
  static_cast<void>(registered);
  return count.load(std::memory_order_relaxed);
}

}  // namespace banditcore

#include "runtime/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#include "runtime/process.h"

namespace banditcore {
namespace {

// The processors a thread may use, where the system knows such a thing.
struct Affinity {
#ifdef __linux__
  cpu_set_t set;
  void read() noexcept {
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
  }
  // Helpers were started from some caller's thread; each call's threads keep to what that call may use.
  void adopt(const Affinity& other) noexcept {
    if (CPU_EQUAL(&set, &other.set) || CPU_COUNT(&other.set) == 0) return;
    if (sched_setaffinity(0, sizeof other.set, &other.set) == 0) set = other.set;
  }
#else
  void read() noexcept {}
  void adopt(const Affinity&) noexcept {}
#endif
};

// Signals belong to the threads of the program: one that ran here would not wake the one that waits for it.
class NoSignals {
 public:
  NoSignals() noexcept {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~NoSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  NoSignals(const NoSignals&) = delete;
  NoSignals& operator=(const NoSignals&) = delete;

 private:
  sigset_t before_;
};

using Clock = std::chrono::steady_clock;

// Units of one call. It stands on the caller's stack; helpers hold it between joining and leaving, which happen under
// the pool's lock, and the caller waits for the last to leave.
class Job {
 public:
  Job(std::int64_t begin, std::int64_t end, int most, std::int64_t patience, void (*work)(void*, int, std::int64_t),
      void* context) noexcept
      : most(most), next_(begin), end_(end), left_(end), limited_(patience >= 0), work_(work), context_(context) {
    if (limited_) until_ = Clock::now() + std::chrono::nanoseconds(patience);
  }

  void run(int thread) noexcept {
    for (;;) {
      const std::int64_t unit = next_.fetch_add(1, std::memory_order_relaxed);
      if (unit >= end_) return;
      work_(context_, thread, unit);
      if (limited_ && Clock::now() >= until_) stop();
    }
  }
  bool has_more() const noexcept { return next_.load(std::memory_order_relaxed) < end_; }
  // Once nobody runs it.
  std::int64_t left() const noexcept { return left_; }

  const int most;   // threads, the caller's included
  int joined = 1;   // thread numbers given out
  int running = 0;  // helpers at work
  Affinity affinity;
  Job* after = nullptr;  // in the pool's list

 private:
  // Of all that come here one sees how far the units were given out.
  void stop() noexcept {
    constexpr std::int64_t kStopped = INT64_MAX / 2;
    const std::int64_t begun = next_.exchange(kStopped, std::memory_order_relaxed);
    if (begun < end_) left_ = begun;
  }

  std::atomic<std::int64_t> next_;
  const std::int64_t end_;
  std::int64_t left_;
  const bool limited_;
  Clock::time_point until_{};
  void (*const work_)(void*, int, std::int64_t);
  void* const context_;
};

class Pool {
 public:
  void share(Job& job) noexcept {
    job.affinity.read();
    {
      const std::lock_guard<std::mutex> guard(lock_);
      start(job.most - 1);
      job.after = jobs_;
      jobs_ = &job;
    }
    wake_.notify_all();
    job.run(0);
    std::unique_lock<std::mutex> guard(lock_);
    Job** at = &jobs_;
    while (*at != &job) at = &(*at)->after;
    *at = job.after;
    done_.wait(guard, [&] { return job.running == 0; });
  }

 private:
  // Needs the lock. No more threads than the widest call has asked for.
  void start(int helpers) noexcept {
    if (threads_ >= helpers) return;
    const NoSignals guard;
    try {
      for (; threads_ < helpers; ++threads_) std::thread([this] { serve(); }).detach();
    } catch (const std::exception&) {
      // No thread or no memory for one: those that run, the caller at least, take all units.
    }
  }

  void serve() noexcept {
    Affinity mine;
    mine.read();
    std::unique_lock<std::mutex> guard(lock_);
    for (;;) {
      Job* job = jobs_;
      while (job != nullptr && (job->joined >= job->most || !job->has_more())) job = job->after;
      if (job == nullptr) {
        wake_.wait(guard);
        continue;
      }
      const int thread = job->joined++;
      ++job->running;
      guard.unlock();
      mine.adopt(job->affinity);
      job->run(thread);
      guard.lock();
      if (--job->running == 0) done_.notify_all();
    }
  }

  std::mutex lock_;
  std::condition_variable wake_, done_;
  Job* jobs_ = nullptr;
  int threads_ = 0;
};

struct Owned {
  Pool pool;
  unsigned forks;  // of the process that made it
};

// Null without memory. Never destroyed: its threads may outlive static destruction. A forked child has none of them,
// and locks in whichever state: it starts with a pool of its own and leaves the parent's alone.
Pool* the_pool() noexcept {
  static std::atomic<Owned*> pool{nullptr};
  const unsigned now = forks();
  Owned* found = pool.load(std::memory_order_acquire);
  if (found != nullptr && found->forks == now) return &found->pool;
  Owned* const made = new (std::nothrow) Owned{{}, now};
  if (made == nullptr) return nullptr;
  if (pool.compare_exchange_strong(found, made)) return &made->pool;
  delete made;
  return &found->pool;
}

}  // namespace

std::int64_t share_units(std::int64_t begin, std::int64_t end, int threads, std::int64_t patience,
                         void (*work)(void*, int, std::int64_t), void* context) noexcept {
  Job job(begin, end, static_cast<int>(std::min<std::int64_t>(threads, end - begin)), patience, work, context);
  Pool* const pool = job.most > 1 ? the_pool() : nullptr;
  if (pool != nullptr) {
    pool->share(job);
  } else {
    job.run(0);
  }
  return job.left();
}

const PoolFunctions pool_functions = {share_units, forks};

}  // namespace banditcore

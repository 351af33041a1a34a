#include "race_rows.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <string>
#include <thread>

namespace banditcore {

RaceMemory::RaceMemory(const Race& race, int threads, std::int64_t k, std::int64_t bans_a_row) {
  // Besides the heads, a row has a Poisson number of points from the rest, far fewer than one on average.
  const std::int64_t pending = race.heads + 64;
  const std::int64_t places = std::min(k, race.size);
  std::uint64_t seen = 64;
  while (seen < 2 * static_cast<std::uint64_t>(places + bans_a_row + 64)) seen *= 2;
  pending_.resize(pending * threads);
  tail_.resize(places * threads);
  seen_.resize(seen * threads);
  for (int thread = 0; thread < threads; ++thread) {
    RaceScratch scratch;
    scratch.pending = pending_.data() + pending * thread;
    scratch.pending_places = pending;
    scratch.seen = seen_.data() + seen * thread;
    scratch.seen_mask = static_cast<std::uint32_t>(seen - 1);
    scratch.tail = tail_.data() + places * thread;
    scratch_.push_back(scratch);
  }
}

namespace {

struct Choice {
  const char* name;
  RaceRows run;
  bool here;
};

// Best first; the last one runs everywhere.
const Choice* choices() noexcept {
#if defined(__x86_64__)
  static const Choice kChoices[] = {
      {"avx512", race_rows_avx512,
       __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd")},
      {"avx2", race_rows_avx2, __builtin_cpu_supports("avx2") != 0},
      {"serial", race_rows_serial, true},
      {nullptr, nullptr, false}};
#else
  static const Choice kChoices[] = {{"serial", race_rows_serial, true}, {nullptr, nullptr, false}};
#endif
  return kChoices;
}

}  // namespace

RaceRows choose_race(const char* kernel) noexcept {
  RaceRows best = nullptr;
  for (const Choice* choice = choices(); choice->name; ++choice) {
    if (!choice->here) continue;
    if (!best) best = choice->run;
    if (std::strcmp(kernel, choice->name) == 0) return choice->run;
  }
  return best;
}

const char* race_kernels() noexcept {
  static const std::string names = [] {
    std::string list;
    for (const Choice* choice = choices(); choice->name; ++choice) {
      if (choice->here) list += (list.empty() ? "" : " ") + std::string(choice->name);
    }
    return list;
  }();
  return names.c_str();
}

void race_topk(RaceRows run, const Race& race, StreamKey key, std::uint64_t first, std::int64_t rows,
               std::int64_t k, const RaceBans& bans, RaceMemory& memory, std::int32_t* out) noexcept {
  const int wanted = static_cast<int>(std::min<std::int64_t>(memory.threads(), rows));
  const auto play = [&](int thread, std::int64_t begin, std::int64_t end) {
    RaceBans here = bans;
    if (here.per_row) here.per_row += begin * here.per_row_size;
    run(race, key, first + begin, end - begin, k, here, memory.of(thread), out + begin * k);
  };
  if (wanted <= 1) {
    play(0, 0, rows);
    return;
  }
  const std::int64_t piece = std::max<std::int64_t>(1, rows / (8 * wanted));
  std::atomic<std::int64_t> next{0};
  const auto work = [&](int thread) {
    for (;;) {
      const std::int64_t begin = next.fetch_add(piece, std::memory_order_relaxed);
      if (begin >= rows) return;
      play(thread, begin, std::min(rows, begin + piece));
    }
  };
  constexpr int kMost = 256;
  std::thread others[kMost];
  int started = 0;
  try {
    for (int thread = 1; thread < std::min(wanted, kMost); ++thread) {
      others[started] = std::thread(work, thread);
      ++started;
    }
  } catch (const std::exception&) {
    // No thread or no memory for one: those that run, this one at least, take all pieces.
  }
  work(0);
  for (int thread = 0; thread < started; ++thread) others[thread].join();
}

}  // namespace banditcore

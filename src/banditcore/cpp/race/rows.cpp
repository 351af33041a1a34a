#include "race/rows.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>
#include <string>

namespace banditcore {
namespace {

constexpr std::align_val_t kApart{128};  // bytes that processors fetch together: threads write to their own

std::size_t rounded(std::size_t bytes) {
  const auto apart = static_cast<std::size_t>(kApart);
  return (bytes + apart - 1) / apart * apart;
}

}  // namespace

RaceMemory::RaceMemory(const Race& race, int threads, std::int64_t k, std::int64_t bans_a_row) {
  // Besides the heads, a row has a Poisson number of points from the rest, far fewer than one on average.
  const auto pending = static_cast<std::size_t>(race.heads + 64);
  const auto places = static_cast<std::size_t>(std::min(k, race.size));
  std::size_t seen = 64;
  while (seen < 2 * (places + static_cast<std::size_t>(bans_a_row) + 64)) seen *= 2;
  const std::size_t marks = rounded(sizeof(RaceScratch)), points = marks + rounded(seen * sizeof(std::uint64_t));
  stride_ = points + rounded((pending + places) * sizeof(RacePending));
  bytes_.reset(static_cast<unsigned char*>(::operator new(stride_ * static_cast<std::size_t>(threads), kApart)));
  for (int thread = 0; thread < threads; ++thread) {
    unsigned char* const at = bytes_.get() + stride_ * thread;
    RaceScratch& scratch = *new (at) RaceScratch;
    scratch.seen = reinterpret_cast<std::uint64_t*>(at + marks);
    scratch.seen_mask = static_cast<std::uint32_t>(seen - 1);
    std::memset(scratch.seen, 0, seen * sizeof(std::uint64_t));
    scratch.pending = reinterpret_cast<RacePending*>(at + points);
    scratch.pending_places = static_cast<std::int64_t>(pending);
    scratch.tail = scratch.pending + pending;
  }
}

void RaceMemory::Free::operator()(unsigned char* bytes) const noexcept { ::operator delete(bytes, kApart); }

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
#elif defined(__aarch64__)
  static const Choice kChoices[] = {
      {"neon", race_rows_neon, true}, {"serial", race_rows_serial, true}, {nullptr, nullptr, false}};
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

RaceCall::RaceCall(const PoolFunctions& pool, RaceRows run, const Race& race, StreamKey key, std::uint64_t first,
                   std::int64_t rows, std::int64_t k, const RaceBans& bans, int threads, std::int64_t unit,
                   std::int32_t* out)
    : pool_(pool), run_(run), race_(race), key_(key), first_(first), rows_(rows), k_(k), bans_(bans),
      threads_(static_cast<int>(std::clamp<std::int64_t>(rows, 1, threads))), unit_(unit), out_(out),
      memory_(race, threads_, k, bans.per_row_size) {}

void RaceCall::play(int thread, std::int64_t begin, std::int64_t end) noexcept {
  RaceBans here = bans_;
  if (here.per_row) here.per_row += begin * here.per_row_size;
  run_(race_, key_, first_ + static_cast<std::uint64_t>(begin), end - begin, k_, here, memory_.of(thread),
       out_ + begin * k_);
}

// Plays rows until their time can be told, and makes a unit of as many as are long beside handing them out and short
// beside the call. A row may take a third of a microsecond, or a second. Returns how long the last ones took, in
// nanoseconds.
std::int64_t RaceCall::find_unit() noexcept {
  using Clock = std::chrono::steady_clock;
  constexpr std::int64_t kUnitTime = 100'000, kTold = 10'000;  // nanoseconds
  constexpr std::int64_t kUnitsAThread = 16;
  std::int64_t took = 0;
  for (std::int64_t rows = 1; unit_ == 0 && next_ < rows_; rows *= 4) {
    const std::int64_t end = std::min(next_ + rows, rows_);
    const auto start = Clock::now();
    play(0, next_, end);
    took = std::chrono::nanoseconds(Clock::now() - start).count();
    if (took >= kTold) {
      const std::int64_t unit = std::min((end - next_) * kUnitTime / took, rows_ / (kUnitsAThread * threads_));
      unit_ = unit > 4 ? unit / 4 * 4 : std::max<std::int64_t>(unit, 1);  // rows race four at a time
    }
    next_ = end;
  }
  return took;
}

bool RaceCall::advance(std::int64_t patience) noexcept {
  if (unit_ == 0 && (find_unit() >= patience || next_ == rows_)) return next_ < rows_;
  const std::int64_t start = next_, unit = unit_;
  auto work = [&](int thread, std::int64_t at) {
    play(thread, start + at * unit, std::min(start + (at + 1) * unit, rows_));
  };
  const std::int64_t units = (rows_ - start + unit - 1) / unit;
  next_ = start + unit * share(pool_, 0, units, threads_, patience, work);
  return next_ < rows_;
}

}  // namespace banditcore

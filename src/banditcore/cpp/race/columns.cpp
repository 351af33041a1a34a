#include "race/columns.h"

namespace banditcore {
namespace {

struct Choice {
  const RaceColumns* columns;
  bool here;
};

constexpr RaceColumns kNone = {};

}  // namespace

const RaceColumns& race_columns(int place) noexcept {
#if defined(__x86_64__)
  static const Choice kChoices[] = {{&kRaceColumnsAvx512, __builtin_cpu_supports("avx512f") != 0},
                                    {&kRaceColumnsAvx2, __builtin_cpu_supports("avx2") != 0},
                                    {&kRaceColumnsSerial, true}};
#else
  static const Choice kChoices[] = {{&kRaceColumnsSerial, true}};
#endif
  for (const Choice& choice : kChoices) {
    if (choice.here && place-- == 0) return *choice.columns;
  }
  return kNone;
}

const RaceColumns& race_columns() noexcept { return race_columns(0); }

}  // namespace banditcore

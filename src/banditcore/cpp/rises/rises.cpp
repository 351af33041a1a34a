#include "rises/rises.h"

namespace banditcore {
namespace {

struct Choice {
  const RiseKernel* kernel;
  bool here;
};

constexpr RiseKernel kNone = {};

}  // namespace

const RiseKernel& rise_kernel(int place) noexcept {
#if defined(__x86_64__)
  static const Choice kChoices[] = {{&kRisesAvx512, __builtin_cpu_supports("avx512f") != 0},
                                    {&kRisesAvx2, __builtin_cpu_supports("avx2") != 0},
                                    {&kRisesSerial, true}};
#else
  static const Choice kChoices[] = {{&kRisesSerial, true}};
#endif
  for (const Choice& choice : kChoices) {
    if (choice.here && place-- == 0) return *choice.kernel;
  }
  return kNone;
}

}  // namespace banditcore

#include "kernel/dispatch.h"

#include <cstring>

namespace banditcore {
namespace {

struct Choice {
  const Kernel* kernel;
  bool (*supported)();
};

#ifndef BANDITCORE_X86_KERNELS
bool always() { return true; }
#else
// Besides the processor, these ask whether the operating system saves the wide registers.
bool has_fma() { return __builtin_cpu_supports("fma"); }
bool lacks_fma() { return !has_fma(); }
bool has_avx2() { return __builtin_cpu_supports("avx2") && has_fma(); }
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
}
#endif

// Best first; of two with one name a machine runs one. A kernel for another instruction set is one line here, its
// source, and in setup.py its flags.
const Choice kChoices[] = {
#ifdef BANDITCORE_X86_KERNELS
    {&kernel_avx512, has_avx512},
    {&kernel_avx2, has_avx2},
#endif
#ifdef BANDITCORE_NEON_KERNEL
    {&kernel_neon, always},
#endif
#ifdef BANDITCORE_X86_KERNELS
    {&kernel_serial_fma, has_fma},
    {&kernel_serial, lacks_fma},
#else
    {&kernel_serial, always},
#endif
};

}  // namespace

const Kernel* choose_kernel(const char* name) {
#ifdef BANDITCORE_X86_KERNELS
  __builtin_cpu_init();
#endif
  const bool any_name = name == nullptr || *name == '\0';
  for (const Choice& choice : kChoices) {
    if ((any_name || std::strcmp(name, choice.kernel->name) == 0) && choice.supported()) return choice.kernel;
  }
  return nullptr;
}

const char* available_kernels() {
  static char names[128];
  if (names[0] == '\0') {
    for (const Choice& choice : kChoices) {
      if (!choice.supported()) continue;
      if (names[0] != '\0') std::strncat(names, ", ", sizeof names - std::strlen(names) - 1);
      std::strncat(names, choice.kernel->name, sizeof names - std::strlen(names) - 1);
    }
  }
  return names;
}

}  // namespace banditcore

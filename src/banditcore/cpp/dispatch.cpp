#include "dispatch.h"

#include <cstring>

namespace banditcore {
namespace {

struct Choice {
  const Kernel* kernel;
  bool (*supported)();
};

bool always() { return true; }

// Best first. A kernel for another instruction set is one line here and one source file.
const Choice kChoices[] = {
    {&kernel_serial, always},
};

}  // namespace

const Kernel* choose_kernel(const char* name) {
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

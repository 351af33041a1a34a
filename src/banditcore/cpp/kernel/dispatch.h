// Which kernel this process uses.
#pragma once

#include "kernel/kernel.h"

namespace banditcore {

// The kernel called `name`, or the best one this machine can run if `name` is null or empty.
// Null if no kernel is called so, or the machine cannot run it.
const Kernel* choose_kernel(const char* name);

// Names of the kernels this machine can run, best first, separated by ", ".
const char* available_kernels();

}  // namespace banditcore

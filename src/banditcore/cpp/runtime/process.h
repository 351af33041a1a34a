// What a fork leaves behind.
#pragma once

namespace banditcore {

// Forks between the loading of this module and this process: a child sees one more than its parent.
unsigned forks() noexcept;

}  // namespace banditcore

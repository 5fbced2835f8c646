// Owns: the ordered list of kernel tables and the choice among them.
#pragma once

#include <string>
#include <vector>

#include "kernels/kernel_table.h"

namespace bitnet {

// Tables that this build has and this CPU can run, best first; "generic" is always last. Kernels
// that an ISA leaves null come from the next table that has them.
std::vector<const KernelTable*> available_tables();
// Names of all tables in this build, runnable here or not, best first.
std::vector<std::string> compiled_isas();
// `name` empty: the environment variable BITNET_ISA if set, else the best. ValueError when the name
// is unknown or cannot run here, listing what can.
const KernelTable& select_table(const std::string& name);

}  // namespace bitnet

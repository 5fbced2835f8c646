// Compares every kernel table that runs here with the generic one; exit code 1 and a named case
// where they differ. No Python, so that it runs where only a compiler is: under an emulator, or on
// a new machine.
//
//     equal [TABLE,...]     the names of all tables that must be found, best first
#include "equal.h"

#include <cstdio>
#include <string>

#include "kernels/registry.h"
#include "report.h"

int main(int argc, char** argv) {
  using namespace bitnet;
  const auto tables = available_tables();
  std::string names;
  for (const KernelTable* table : tables)
    names += (names.empty() ? "" : ",") + std::string(table->name);
  std::printf("tables: %s\n", names.c_str());
  if (argc > 1 && names != argv[1]) {
    std::printf("FAILED: expected the tables %s\n", argv[1]);
    return 1;
  }
  const KernelTable& generic = *tables.back();
  for (std::size_t i = 0; i < tables.size(); ++i) {
    const KernelTable* next = i + 1 < tables.size() ? tables[i + 1] : nullptr;
    const test::Tables compared{*tables[i], next, generic};
    test::compare_packed(compared);
    test::compare_elementwise(compared);
    test::compare_dense(compared);
    test::compare_attend(compared);
  }
  return test::Check::any_failed ? 1 : 0;
}

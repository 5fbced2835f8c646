// Owns: the parts of the comparison of a kernel table with the generic one.
#pragma once

#include "kernels/kernel_table.h"

namespace bitnet::test {

struct Tables {
  const KernelTable& table;
  const KernelTable* next;  // that fills its empty slots; nullptr: none
  const KernelTable& generic;

  // Whether the kernel is the table's own, not the next one's.
  template <class Fn>
  bool owns(Fn KernelTable::* slot) const {
    return !next || table.*slot != next->*slot;
  }
  // The same for a format's product, which a table may lack.
  template <class Fn>
  bool owns(Fn (KernelTable::*slots)[kNumFormats], Format format) const {
    const int i = static_cast<int>(format);
    return (table.*slots)[i] && (!next || (table.*slots)[i] != (next->*slots)[i]);
  }
};

void compare_packed(const Tables& tables);
void compare_elementwise(const Tables& tables);
void compare_dense(const Tables& tables);
void compare_attend(const Tables& tables);

}  // namespace bitnet::test

// elements.cpp: elements of variable size. kernels/elements.py specifies its functions.
#pragma once

#include <nanobind/nanobind.h>

namespace zarrant {

void bind_elements(nanobind::module_& m);

}  // namespace zarrant

#include "base/version.h"

_Atomic int64_t bus__mark_ns = INT64_C(600) * 1000000000;

/* The operations by way of the kernel keep to the same rules. */
#define OPERATIONS safemmap_kernel
#include "test_guard.c"

/* The operations through system calls keep to the same rules. */
#define OPERATIONS safemmap_kernel
#include "test_guard.c"

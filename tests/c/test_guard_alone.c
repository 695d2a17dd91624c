/* The same again on a machine for which there is no assembly for copies: a guard for
 * every one. */
#define BEFORE_TESTS \
    safemmap__fixup_short = safemmap__fixup_long = safemmap__fixup_near = 0
#include "test_guard.c"

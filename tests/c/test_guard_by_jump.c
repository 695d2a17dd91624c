/* The same again where a shadow stack checks each return: a guard for every access,
 * which the handler leaves by longjmp. */
#define BEFORE_TESTS                    \
    safemmap__calls_end_by_jump = true; \
    safemmap__fixup_short = safemmap__fixup_long = safemmap__fixup_near = 0
#include "test_guard.c"

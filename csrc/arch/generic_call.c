/* Runs outside the signal (inside it: safemmap__leave_by_jump()). Calls a function
 * that the handler can end, by the C library's jumps.
 */
#include "arch.h"

#if !SAFEMMAP__ASSEMBLY
bool safemmap__calls_end_by_jump = true;
#endif

uintptr_t
safemmap__call_by_jump(struct safemmap__place *place, safemmap__access *run,
                       const void *arguments)
{
    place->stack = 0;
    return sigsetjmp(place->buffer, 0) == 0 ? run(arguments) : 0;
}

_Noreturn void
safemmap__leave_by_jump(struct safemmap__place *place)
{
    siglongjmp(place->buffer, 1);
}

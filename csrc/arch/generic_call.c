/* Runs outside the signal (inside it: safemmap__leave_by_jump()). Calls a function
 * that the handler can end, by the C library's jumps. (Those of FreeBSD, NetBSD,
 * OpenBSD and macOS set the signal mask of then again, too: it is the same.)
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
    return setjmp(place->buffer) == 0 ? run(arguments) : 0;
}

_Noreturn void
safemmap__leave_by_jump(struct safemmap__place *place)
{
    longjmp(place->buffer, 1);
}

/* Runs outside the signal, but for safemmap__leave_call(): calls a function that the
 * handler can end, by the C library's jumps.
 */
#include "arch.h"

uintptr_t
safemmap__call(struct safemmap__place *place, safemmap__access *run,
               const void *arguments)
{
    return sigsetjmp(place->buffer, 0) == 0 ? run(arguments) : 0;
}

_Noreturn void
safemmap__leave_call(struct safemmap__place *place)
{
    siglongjmp(place->buffer, 1);
}

/* Runs nowhere: the C library's restorer is the one that handlers return to. */
#include "arch.h"

void
safemmap__sigaction_restorer(void)
{
    __builtin_trap();
}

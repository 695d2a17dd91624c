/* Runs inside the signal and outside: what OpenBSD has for itself. (Its
 * __MAP_NOFAULT, by which the kernel maps the zeros, is for who makes the mapping.)
 */
#include "os.h"

#include <unistd.h>

/* ---- Signals ------------------------------------------------------------ */

/* (The code of a truncated file is BUS_OBJERR.) */
bool
safemmap__os_is_fault(const siginfo_t *info)
{
    return info->si_code > 0;
}

bool
safemmap__os_sent_by_us(const siginfo_t *info)
{
    return (info->si_code == SI_USER || info->si_code == SI_LWP) &&
           info->si_pid == getpid();
}

_Static_assert(sizeof(sigset_t) == sizeof(((ucontext_t *)0)->sc_mask),
               "the mask in a context is no sigset_t");

sigset_t *
safemmap__os_mask_of(ucontext_t *context)
{
    return (sigset_t *)&context->sc_mask;
}

/* ---- Threads ------------------------------------------------------------ */

pid_t
safemmap__os_thread(void)
{
    return getthrid();
}

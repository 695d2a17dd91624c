/* Runs inside the signal and outside: what NetBSD has for itself. */
#include "os.h"

#include <lwp.h>
#include <unistd.h>

/* ---- Signals ------------------------------------------------------------ */

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

sigset_t *
safemmap__os_mask_of(ucontext_t *context)
{
    return &context->uc_sigmask;
}

/* ---- Threads ------------------------------------------------------------ */

pid_t
safemmap__os_thread(void)
{
    return _lwp_self();
}

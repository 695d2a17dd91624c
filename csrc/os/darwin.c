/* Runs inside the signal and outside: what macOS has for itself. */
#include "os.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

/* ---- Memory that may be gone -------------------------------------------- */

/* (A program that another thread executes meanwhile may inherit it.) */
static int
open_pipe(int ret_ends[2])
{
    if (pipe(ret_ends) < 0)
        return -errno;
    for (int i = 0; i < 2; i++)
        if (fcntl(ret_ends[i], F_SETFD, FD_CLOEXEC) < 0 ||
            fcntl(ret_ends[i], F_SETFL, O_NONBLOCK) < 0) {
            int error = -errno;

            close(ret_ends[0]);
            close(ret_ends[1]);
            return error;
        }
    return 0;
}

/* ---- Signals ------------------------------------------------------------ */

/* The codes of what was sent are above those of faults: SI_USER is 0x10001. */
bool
safemmap__os_is_fault(const siginfo_t *info)
{
    return info->si_code > 0 && info->si_code < SI_USER;
}

bool
safemmap__os_sent_by_us(const siginfo_t *info)
{
    return (info->si_code == SI_USER || info->si_code == 0) &&
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
    return (pid_t)pthread_mach_thread_np(pthread_self());
}

/* Conditions cannot wait by another one. */
const clockid_t safemmap__os_condition_clock = CLOCK_REALTIME;

void
safemmap__os_condition_init(pthread_cond_t *condition)
{
    pthread_cond_init(condition, NULL);
}

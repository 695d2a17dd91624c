/* Calls that the interpreter is asked for in the signal handler.
 *
 * The interpreter keeps them under a lock of its own. Others hold that for a few
 * instructions, with the GIL, so that a thread which has the GIL never finds it held
 * by them. But other handlers ask too, on threads without the GIL, and from 3.13 on a
 * thread that waits for the lock can give the GIL up, in the middle of anything. So
 * all handlers wait here for one another instead, and lend their priority.
 *
 * Without a GIL they cannot wait here: who waits for the interpreter's lock may have
 * to wait for all threads to stop, and one that waits here would not stop. There the
 * interpreter's lock, which threads hold for a few instructions, must do. (A thread
 * whose holder is off its processor for long gives up its critical sections.)
 */
#include "_pending.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Exported by the interpreter for its own modules. (The public function leaves the
 * call to the main thread, which may be waiting for the others.) */
#if PY_VERSION_HEX >= 0x030C0000
extern int _PyEval_AddPendingCall(PyInterpreterState *interpreter,
                                  int (*call)(void *), void *argument, int flags)
    __attribute__((weak));
#endif

static pthread_mutex_t asking;
static PyInterpreterState *interpreter; /* NULL: nobody to ask. Guarded by `asking` */

/* (Not pthread_sigmask(3), which leaves out the signal by which a thread is
 * cancelled.) */
static void
set_mask(const sigset_t *mask, sigset_t *ret_before)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, ret_before, _NSIG / 8);
}

/* Blocks all signals: whoever faulted while it asks would wait for itself. All but
 * SIGSYS, by which a sandbox emulates system calls. */
static sigset_t
lock(void)
{
    sigset_t all, before;

    memset(&all, 0xff, sizeof(all));
    sigdelset(&all, SIGSYS);
    set_mask(&all, &before);
#ifndef Py_GIL_DISABLED
    pthread_mutex_lock(&asking);
#endif
    return before;
}

static void
unlock(const sigset_t *before)
{
#ifndef Py_GIL_DISABLED
    pthread_mutex_unlock(&asking);
#endif
    set_mask(before, NULL);
}

void
safemmap_pending_open(void)
{
    pthread_mutexattr_t lending;

    pthread_mutexattr_init(&lending);
    pthread_mutexattr_setprotocol(&lending, PTHREAD_PRIO_INHERIT);
    pthread_mutex_init(&asking, &lending);
    pthread_mutexattr_destroy(&lending);
    interpreter = PyInterpreterState_Get();
}

void
safemmap_pending_close(void)
{
    sigset_t before = lock();

    interpreter = NULL;
    unlock(&before);
}

static int
add(int (*call)(void *), void *argument, bool main_thread)
{
    if (interpreter == NULL)
        return -1;
#if PY_VERSION_HEX >= 0x030C0000
    if (_PyEval_AddPendingCall != NULL)
        return _PyEval_AddPendingCall(interpreter, call, argument, main_thread);
#endif
    (void)main_thread;
    return Py_AddPendingCall(call, argument);
}

bool
safemmap_pending_add(int (*call)(void *), void *argument, bool main_thread)
{
    sigset_t before = lock();
    int result = add(call, argument, main_thread);

    unlock(&before);
    return result == 0;
}

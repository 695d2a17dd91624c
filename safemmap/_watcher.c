/* The thread that warns of faults.
 *
 * It starts after a view has faulted, and ends when it has warned. It is not a
 * threading.Thread: Python does not count it, and libraries that patch threads
 * (gevent, eventlet) do not replace it.
 *
 *   signal handler --ask()--> some Python thread --start()--> the watcher
 *
 * A signal handler cannot start a thread. It asks the interpreter for a pending call,
 * which some thread that runs Python code makes; that call starts the watcher.
 *
 * The watcher blocks all signals, so that it takes none that the program waits for
 * with sigwait(3); all but SIGSYS, by which a sandbox emulates system calls. While it
 * runs Python code, it unblocks those that its own faults raise.
 */
#include <Python.h>

#include "_watcher.h"

#include "_pending.h"

#include "safemmap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const struct safemmap_watched *watched;
static PyInterpreterState *interpreter;

/* ---- Asking, inside the signal ------------------------------------------ */

static int asked;     /* and not answered yet */
static pid_t process; /* whose news are taken */

static int
answer(void *unused)
{
    (void)unused;
    /* Asked by the parent, or before the child is attended to: a thread that is not
     * here may hold what the news are kept under. */
    if (process != getpid())
        return 0;
    /* Before the events are taken: those that come later ask again. */
    __atomic_store_n(&asked, 0, __ATOMIC_SEQ_CST);
    watched->news();
    return 0;
}

void
safemmap_watcher_take_news(void)
{
    watched->news();
}

void
safemmap_watcher_ask(void)
{
    if (__atomic_exchange_n(&asked, 1, __ATOMIC_SEQ_CST) != 0)
        return;
    /* (The interpreter has room for some calls only; the next fault tries again.) */
    if (!safemmap_pending_add(answer, NULL, false))
        __atomic_store_n(&asked, 0, __ATOMIC_SEQ_CST);
}

/* ---- The thread --------------------------------------------------------- */

/* Seconds for which others wait for a warning that is being given. */
static const double PATIENCE = 1;

static pthread_mutex_t lock; /* for all that follow */
static pthread_cond_t changed;
static bool running, ending; /* `ending`: it is to end as soon as it can */
static pthread_t self;       /* while it runs, */
static pid_t number;         /* and the kernel's, once it has begun */
static bool needed;          /* at this time of CLOCK_MONOTONIC: */
static struct timespec due;
static unsigned holds;

static struct timespec
in(double seconds)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    time.tv_sec += (time_t)seconds;
    time.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
    if (time.tv_nsec >= 1000000000) {
        time.tv_nsec -= 1000000000;
        time.tv_sec++;
    }
    return time;
}

/* Under the lock. */
static void
need(double seconds)
{
    if (!needed)
        due = in(seconds);
    needed = true;
}

/* Under the lock. False: it is to end. */
static bool
sleep_until_needed(void)
{
    int error = 0;

    while (needed && !ending && error != ETIMEDOUT)
        error = pthread_cond_timedwait(&changed, &lock, &due);
    return needed && !ending;
}

/* Unblocks the signals of a thread's own faults, which kill a thread that blocks
 * them.
 */
static void
unblock_own_faults(sigset_t *ret_before)
{
    static const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGTRAP};
    sigset_t own;

    sigemptyset(&own);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigaddset(&own, faults[i]);
    pthread_sigmask(SIG_UNBLOCK, &own, ret_before);
}

static double
warn(void)
{
    PyThreadState *state = PyThreadState_New(interpreter);
    sigset_t before;
    double next;

    if (state == NULL)
        return -1; /* no memory */
    unblock_own_faults(&before);
    PyEval_RestoreThread(state);
    next = watched->warn();
    PyThreadState_Clear(state);
    PyThreadState_DeleteCurrent();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return next;
}

static void *
run(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    number = (pid_t)syscall(SYS_gettid);
    while (sleep_until_needed()) {
        double next;

        needed = false;
        pthread_mutex_unlock(&lock);
        next = warn();
        pthread_mutex_lock(&lock);
        if (next >= 0)
            need(next);
    }
    running = false;
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void
block_signals(sigset_t *ret_before)
{
    sigset_t all;

    sigfillset(&all);
    sigdelset(&all, SIGSYS);
    pthread_sigmask(SIG_SETMASK, &all, ret_before);
}

void
safemmap_watcher_start(double seconds)
{
    pthread_attr_t attributes;
    sigset_t before;

    pthread_mutex_lock(&lock);
    need(seconds);
    if (!running && holds == 0 && pthread_attr_init(&attributes) == 0) {
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        number = 0;
        block_signals(&before);
        running = pthread_create(&self, &attributes, run, NULL) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_attr_destroy(&attributes);
    }
    needed = needed && running;
    pthread_mutex_unlock(&lock);
}

/* Whether the kernel no longer counts the thread, which takes a little after its end.
 */
static bool
is_gone(void)
{
    bool gone;

    pthread_mutex_lock(&lock);
    gone = !running && (number == 0 || syscall(SYS_tgkill, getpid(), number, 0) != 0);
    pthread_mutex_unlock(&lock);
    return gone;
}

void
safemmap_watcher_hold(void)
{
    const struct timespec little = {0, 50000};
    const struct timespec end = in(PATIENCE);
    struct timespec now = {0, 0};
    bool wait;

    pthread_mutex_lock(&lock);
    holds++;
    wait = number != 0 || running;
    if (running && pthread_equal(self, pthread_self()))
        wait = false;
    else
        ending = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
    if (!wait)
        return;
    Py_BEGIN_ALLOW_THREADS while (
        !is_gone() && (now.tv_sec < end.tv_sec ||
                       (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec)))
    {
        nanosleep(&little, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    Py_END_ALLOW_THREADS
}

void
safemmap_watcher_release(void)
{
    pthread_mutex_lock(&lock);
    if (holds > 0 && --holds == 0)
        ending = false;
    pthread_mutex_unlock(&lock);
}

/* ---- Beginning and end -------------------------------------------------- */

static void
prepare(void)
{
    pthread_condattr_t monotonic;

    pthread_mutex_init(&lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    running = ending = needed = false;
    number = 0;
    holds = 0;
}

void
safemmap_watcher_attend(const struct safemmap_watched *new_watched)
{
    prepare();
    watched = new_watched;
    interpreter = PyInterpreterState_Get();
    safemmap_pending_open();
    process = getpid();
    asked = 0;
    safemmap_set_event_hook(safemmap_watcher_ask);
}

void
safemmap_watcher_leave(void)
{
    safemmap_set_event_hook(NULL);
    safemmap_pending_close();
}

/* Runs inside and outside the signal: tells the program of faults that no guard met.
 *
 * Handlers, one at a time, put events into a ring; one thread at a time takes them
 * out. Neither waits for the other.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct safemmap_event ring[SAFEMMAP_EVENTS];
/* Events that were ever put in and taken out. */
static size_t pushed, taken;
static uint64_t dropped;

/* Posted when `announced` becomes true. */
static sem_t news;
static int announced;

/* -1 until somebody asks for it. */
static int fd = -1;

__attribute__((constructor)) static void
prepare(void)
{
    sem_init(&news, 0, 0);
}

/* ---- Inside the signal ------------------------------------------------- */

void
safemmap__event_push(const struct safemmap_event *event)
{
    size_t at = __atomic_load_n(&pushed, __ATOMIC_RELAXED);

    if (at - __atomic_load_n(&taken, __ATOMIC_ACQUIRE) == SAFEMMAP_EVENTS) {
        safemmap__count(&dropped);
        return;
    }
    ring[at % SAFEMMAP_EVENTS] = *event;
    __atomic_store_n(&pushed, at + 1, __ATOMIC_RELEASE);
}

/* The program may have closed the number, and opened a file under it, into which we
 * must not write: an eventfd has no file type, nor have its like, to which eight
 * bytes do no harm. */
static bool
is_eventfd(int number)
{
    struct stat status;

    return number >= 0 && fstat(number, &status) == 0 &&
           (status.st_mode & S_IFMT) == 0;
}

void
safemmap_event_fd_set(void)
{
    const uint64_t one = 1;
    int number = __atomic_load_n(&fd, __ATOMIC_ACQUIRE);

    /* (Full after 2^64 - 2 events, and readable all the same. Not write(2): a thread
     * that is cancelled may end there.) */
    if (is_eventfd(number))
        syscall(SYS_write, number, &one, sizeof(one));
}

void
safemmap__event_announce(void)
{
    safemmap_event_wake();
    safemmap_event_fd_set();
}

/* ---- Outside ----------------------------------------------------------- */

bool
safemmap_event_take(struct safemmap_event *ret_event)
{
    size_t at = __atomic_load_n(&taken, __ATOMIC_RELAXED);

    if (at == __atomic_load_n(&pushed, __ATOMIC_ACQUIRE))
        return false;
    *ret_event = ring[at % SAFEMMAP_EVENTS];
    __atomic_store_n(&taken, at + 1, __ATOMIC_RELEASE);
    return true;
}

uint64_t
safemmap_events_dropped(void)
{
    return __atomic_load_n(&dropped, __ATOMIC_RELAXED);
}

/* (The semaphore alone would count as many posts as there were events.) */
void
safemmap_event_wake(void)
{
    if (__atomic_exchange_n(&announced, 1, __ATOMIC_SEQ_CST) == 0)
        sem_post(&news);
}

static int
wait_for_news(const struct timespec *timeout)
{
    struct timespec until;

    if (timeout == NULL)
        return sem_wait(&news);
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += timeout->tv_sec;
    until.tv_nsec += timeout->tv_nsec;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    return sem_timedwait(&news, &until);
}

int
safemmap_event_wait(const struct timespec *timeout)
{
    while (wait_for_news(timeout) < 0)
        if (errno != EINTR)
            return -errno;
    __atomic_store_n(&announced, 0, __ATOMIC_SEQ_CST);
    return 0;
}

int
safemmap_event_fd(void)
{
    int number = __atomic_load_n(&fd, __ATOMIC_ACQUIRE), error;

    if (is_eventfd(number))
        return number;
    if ((error = safemmap__follow_forks()) < 0)
        return error;
    number = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (number < 0)
        return -errno;
    __atomic_store_n(&fd, number, __ATOMIC_RELEASE);
    return number;
}

void
safemmap_event_fd_clear(void)
{
    uint64_t count;
    int number = __atomic_load_n(&fd, __ATOMIC_ACQUIRE);

    /* It does not block: there may be nothing to clear. */
    if (is_eventfd(number) && read(number, &count, sizeof(count)) < 0)
        return;
}

void
safemmap__events_reset(void)
{
    taken = pushed;
    dropped = 0;
    announced = 0;
    sem_init(&news, 0, 0);
    if (!is_eventfd(fd))
        return;
    /* The parent's may not be written to: without it there is room for a new one. */
    int number = fd, own;
    close(number);
    own = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (own >= 0 && own != number) {
        dup3(own, number, O_CLOEXEC);
        close(own);
    }
    fd = own < 0 ? -1 : number;
}

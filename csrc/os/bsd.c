/* Runs inside the signal and outside: what the core asks of FreeBSD, NetBSD, OpenBSD
 * and macOS, as far as they have it in common. What is only in one of them is in the
 * file of that name. Nobody has run these: CI compiles and links them.
 *
 * They have no list of mappings that a handler could read, so that the whole process
 * cannot be protected; they do not move pages, so that memory which belongs to
 * somebody else keeps its zeros; and a thread that waits for another sleeps for a
 * moment at a time, and lends it no priority.
 */
#include "../copies.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<sys/eventfd.h>)
#include <sys/eventfd.h>
#endif
#endif

/* ---- Cancellation -------------------------------------------------------- */

/* The functions below are points of cancellation, and there are no bare system calls
 * that one could rely on. (POSIX does not have these two called in a handler; here
 * they only change a flag of the thread's.) */
static int
forbid_cancellation(void)
{
    int before = PTHREAD_CANCEL_ENABLE;

    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
    return before;
}

static void
restore_cancellation(int before)
{
    pthread_setcancelstate(before, NULL);
}

bool
safemmap__os_has_shadow_stack(void)
{
    return false;
}

const void *
safemmap__os_memrchr(const void *text, int byte, size_t size)
{
    const unsigned char *start = text;

    while (size > 0)
        if (start[--size] == (unsigned char)byte)
            return start + size;
    return NULL;
}

/* ---- Memory that may be gone -------------------------------------------- */

/* One that does not wait, nor outlives exec(3): 0, or a negative errno. */
static int open_pipe(int ret_ends[2]);

/* Where a copy is, in a list of ranges. */
struct cursor {
    const struct iovec *range;
    size_t left; /* ranges from that one on */
    size_t done; /* bytes of it */
};

/* So much on one page, and in one range. */
static size_t
next_piece(struct cursor *cursor, uintptr_t *ret_start)
{
    uintptr_t start;
    size_t size, on_page;

    while (cursor->left > 0 && cursor->done == cursor->range->iov_len) {
        cursor->range++;
        cursor->left--;
        cursor->done = 0;
    }
    if (cursor->left == 0)
        return 0;
    start = (uintptr_t)cursor->range->iov_base + cursor->done;
    size = cursor->range->iov_len - cursor->done;
    on_page = safemmap__page_size - start % safemmap__page_size;
    *ret_start = start;
    return size < on_page ? size : on_page;
}

/* Less than any pipe holds. */
enum { PIECE = 512 };

static ssize_t
transfer_through(const int ends[2], struct cursor *to, struct cursor *from)
{
    ssize_t done = 0;

    for (;;) {
        uintptr_t store = 0, load = 0;
        size_t size = next_piece(from, &load), room = next_piece(to, &store);
        ssize_t moved;

        size = size < room ? size : room;
        size = size < PIECE ? size : PIECE;
        if (size == 0 || (moved = write(ends[1], (void *)load, size)) <= 0 ||
            (moved = read(ends[0], (void *)store, (size_t)moved)) <= 0)
            return done;
        done += moved;
        from->done += (size_t)moved;
        to->done += (size_t)moved;
    }
}

/* (By a pipe of its own for each: the kernel answers EFAULT where a page is gone.) */
ssize_t
safemmap__os_transfer(const struct iovec *target, size_t targets,
                      const struct iovec *source, size_t sources)
{
    struct cursor to = {target, targets, 0}, from = {source, sources, 0};
    int ends[2], before = forbid_cancellation();
    ssize_t done = open_pipe(ends);

    if (done == 0) {
        done = transfer_through(ends, &to, &from);
        close(ends[0]);
        close(ends[1]);
    }
    restore_cancellation(before);
    return done;
}

/* ---- Waiting ------------------------------------------------------------ */

static void
sleep_a_little(void)
{
    const struct timespec little = {0, 100000};
    int before = forbid_cancellation();

    nanosleep(&little, NULL);
    restore_cancellation(before);
}

bool
safemmap__os_wait_for_lock(int *word)
{
    (void)word;
    sleep_a_little();
    return false;
}

/* (Nobody has left a mark in the word, which would bring us here.) */
void
safemmap__os_hand_over_lock(int *word)
{
    __atomic_store_n(word, 0, __ATOMIC_RELEASE);
}

void
safemmap__os_sleep_while(unsigned *word, unsigned value)
{
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) == value)
        sleep_a_little();
}

void
safemmap__os_wake_all(unsigned *word)
{
    (void)word;
}

/* ---- Files -------------------------------------------------------------- */

int
safemmap__os_open(const char *path)
{
    int before = forbid_cancellation(), fd = open(path, O_RDONLY | O_CLOEXEC);
    int result = fd < 0 ? -errno : fd;

    restore_cancellation(before);
    return result;
}

ssize_t
safemmap__os_read_file(int fd, void *target, size_t size)
{
    int before = forbid_cancellation();
    ssize_t done = read(fd, target, size);

    restore_cancellation(before);
    return done;
}

void
safemmap__os_close(int fd)
{
    int before = forbid_cancellation();

    close(fd);
    restore_cancellation(before);
}

void
safemmap__os_punch(int fd, uint64_t offset, uint64_t size)
{
    (void)fd;
    (void)offset;
    (void)size;
}

int
safemmap__os_file_of(const char *path, struct safemmap__file_status *ret)
{
    struct stat status;

    if (stat(path, &status) < 0)
        return -errno;
    *ret = (struct safemmap__file_status){.device = status.st_dev,
                                          .inode = status.st_ino,
                                          .size = status.st_size,
                                          .regular = S_ISREG(status.st_mode)};
    return 0;
}

/* ---- Signals ------------------------------------------------------------ */

bool
safemmap__os_mask_is_empty(const sigset_t *mask)
{
    for (int signo = 1; signo < NSIG; signo++)
        if (sigismember(mask, signo) == 1)
            return false;
    return true;
}

int
safemmap__os_set_action(const struct sigaction *action,
                        struct sigaction *ret_replaced)
{
    return sigaction(SIGBUS, action, ret_replaced) < 0 ? -errno : 0;
}

/* (None sends a signal with what came with another.) */
void
safemmap__os_send_again(siginfo_t *info)
{
    pthread_kill(pthread_self(), info->si_signo);
}

/* (Not known: a child may be kept alive that its last thread has left.) */
bool
safemmap__os_is_only_thread(void)
{
    return false;
}

bool
safemmap__os_is_last_thread(void)
{
    return false;
}

bool
safemmap__os_has_thread(pid_t thread)
{
    (void)thread;
    return false;
}

int
safemmap__os_block_signals(sigset_t *ret_before)
{
    return safemmap__os_block_signals_of_new_thread(ret_before);
}

void
safemmap__os_restore_signals(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

bool
safemmap__os_is_poison(int code)
{
    (void)code;
    return false;
}

uintptr_t
safemmap__os_poisoned_size(const siginfo_t *info)
{
    (void)info;
    return 0;
}

bool
safemmap__os_is_early(const siginfo_t *info)
{
    (void)info;
    return false;
}

/* ---- A descriptor that is readable or not ------------------------------- */

int
safemmap__os_event_new(void)
{
#ifdef EFD_NONBLOCK
    int number = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return number < 0 ? -errno : number;
#else
    return -ENOSYS;
#endif
}

bool
safemmap__os_event_is(int number)
{
    struct stat status;

    return number >= 0 && fstat(number, &status) == 0 && !S_ISREG(status.st_mode) &&
           !S_ISSOCK(status.st_mode) && !S_ISFIFO(status.st_mode) &&
           !S_ISCHR(status.st_mode);
}

void
safemmap__os_event_set(int number)
{
    const uint64_t one = 1;
    int before = forbid_cancellation();
    ssize_t done = write(number, &one, sizeof(one));

    (void)done; /* if it is full, it is readable all the same */
    restore_cancellation(before);
}

void
safemmap__os_event_clear(int number)
{
    uint64_t count;

    if (read(number, &count, sizeof(count)) < 0)
        return; /* there was nothing to clear */
}

int
safemmap__os_event_renew(int number)
{
    int own;

    close(number);
    own = safemmap__os_event_new();
    if (own < 0 || own == number)
        return own < 0 ? -1 : number;
    if (dup2(own, number) < 0)
        number = -1;
    else
        fcntl(number, F_SETFD, FD_CLOEXEC);
    close(own);
    return number;
}

/* ---- Handlers that are installed late ----------------------------------- */

void
safemmap__os_precede_wayland(void)
{
}

void
safemmap__os_forget_wayland(void)
{
}

/* ---- Other copies of this library --------------------------------------- */

/* The only one that is looked for. */
struct safemmap__copy safemmap__copy;

void
safemmap__os_copies_visit(safemmap__copy_visitor *visit, void *context)
{
    visit(&safemmap__copy, context);
}

const struct safemmap__copy *
safemmap__os_copy_of(uintptr_t function, size_t *ret_entry)
{
    for (size_t i = 0; i < safemmap__copy.entry_count; i++)
        if ((uintptr_t)safemmap__copy.entries[i] == function) {
            *ret_entry = i;
            return &safemmap__copy;
        }
    return NULL;
}

/* (Python never unloads an extension module.) */
void
safemmap__os_stay_loaded(void)
{
}

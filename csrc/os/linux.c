/* Runs inside the signal and outside: what the core asks of Linux. */
#include "os.h"
#include "../arch/arch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What older headers lack: <sys/mman.h> before glibc 2.32. */
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

const void *
safemmap__os_memrchr(const void *text, int byte, size_t size)
{
    return memrchr(text, byte, size);
}

/* On x86-64 from Linux 6.6 on, on ARM from 6.13 on. */
bool
safemmap__os_has_shadow_stack(void)
{
    enum { ASK_X86 = 0x5005, ASK = 74 }; /* <asm/prctl.h>, <linux/prctl.h> */
    unsigned long features = 0;

#ifdef SYS_arch_prctl
    if (syscall(SYS_arch_prctl, ASK_X86, &features) == 0)
        return (features & 1) != 0;
#endif
    return prctl(ASK, &features, 0, 0, 0) == 0 && (features & 1) != 0;
}

/* ---- Memory that may be gone -------------------------------------------- */

ssize_t
safemmap__os_transfer(const struct iovec *target, size_t targets,
                      const struct iovec *source, size_t sources)
{
    ssize_t done = process_vm_readv(getpid(), target, targets, source, sources, 0);

    if (done < 0)
        return errno == EFAULT ? 0 : -errno;
    return done;
}

/* ---- Waiting ------------------------------------------------------------ */

static long
futex(int *word, int operation, int value)
{
    return syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

/* A futex was refused: where a sandbox knows none, a thread sleeps for a while. */
static void
sleep_unless_interrupted(void)
{
    const struct timespec little = {0, 100000};

    if (errno != EINTR && errno != EAGAIN)
        syscall(SYS_nanosleep, &little, NULL);
}

bool
safemmap__os_wait_for_lock(int *word)
{
    if (futex(word, FUTEX_LOCK_PI_PRIVATE, 0) == 0)
        return true;
    sleep_unless_interrupted();
    return false;
}

void
safemmap__os_hand_over_lock(int *word)
{
    futex(word, FUTEX_UNLOCK_PI_PRIVATE, 0);
}

void
safemmap__os_sleep_while(unsigned *word, unsigned value)
{
    if (futex((int *)word, FUTEX_WAIT_PRIVATE, (int)value) < 0)
        sleep_unless_interrupted();
}

void
safemmap__os_wake_all(unsigned *word)
{
    futex((int *)word, FUTEX_WAKE_PRIVATE, INT_MAX);
}

/* ---- Pages -------------------------------------------------------------- */

int
safemmap__os_reserve(size_t size, uintptr_t *ret_start)
{
    void *start = mmap(NULL, size, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (start == MAP_FAILED)
        return -errno;
    *ret_start = (uintptr_t)start;
    return 0;
}

void
safemmap__os_release(uintptr_t start, size_t size)
{
    munmap((void *)start, size);
}

/* (Before Linux 5.13 a file's pages cannot be moved so, and before 6.17 only those of
 * one mapping at a time: -EFAULT.) */
int
safemmap__os_move_pages(uintptr_t from, uintptr_t to, size_t size)
{
    const int flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;

    return mremap((void *)from, size, size, flags, (void *)to) == MAP_FAILED ? -errno
                                                                             : 0;
}

/* ---- Files -------------------------------------------------------------- */

int
safemmap__os_open(const char *path)
{
    long fd = syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);

    return fd < 0 ? -errno : (int)fd;
}

ssize_t
safemmap__os_read_file(int fd, void *target, size_t size)
{
    return (ssize_t)syscall(SYS_read, fd, target, size);
}

void
safemmap__os_close(int fd)
{
    syscall(SYS_close, fd);
}

void
safemmap__os_punch(int fd, uint64_t offset, uint64_t size)
{
    syscall(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
            size);
}

/* ---- Signals ------------------------------------------------------------ */

bool
safemmap__os_is_fault(const siginfo_t *info)
{
    return info->si_code > 0;
}

sigset_t *
safemmap__os_mask_of(ucontext_t *context)
{
    return &context->uc_sigmask;
}

bool
safemmap__os_mask_is_empty(const sigset_t *mask)
{
    return sigisemptyset(mask);
}

#if SAFEMMAP__RESTORER

/* What rt_sigaction(2) takes. */
struct kernel_action {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
};
#define SA_RESTORER_FLAG 0x04000000ul

int
safemmap__os_set_action(const struct sigaction *action,
                        struct sigaction *ret_replaced)
{
    struct kernel_action new = {action->sa_sigaction,
                                (unsigned int)action->sa_flags | SA_RESTORER_FLAG,
                                safemmap__sigaction_restorer, 0};
    struct kernel_action old;

    memcpy(&new.mask, &action->sa_mask, sizeof(new.mask));
    if (syscall(SYS_rt_sigaction, SIGBUS, &new, &old, sizeof(new.mask)) != 0)
        return -errno;
    memset(ret_replaced, 0, sizeof(*ret_replaced));
    ret_replaced->sa_sigaction = old.handler;
    ret_replaced->sa_flags = (int)old.flags;
    ret_replaced->sa_restorer = old.restorer;
    memcpy(&ret_replaced->sa_mask, &old.mask, sizeof(old.mask));
    return 0;
}

#else

int
safemmap__os_set_action(const struct sigaction *action,
                        struct sigaction *ret_replaced)
{
    return sigaction(SIGBUS, action, ret_replaced) < 0 ? -errno : 0;
}

#endif

bool
safemmap__os_sent_by_us(const siginfo_t *info)
{
    return (info->si_code == SI_TKILL || info->si_code == SI_USER) &&
           info->si_pid == getpid();
}

void
safemmap__os_send_again(siginfo_t *info)
{
    syscall(SYS_rt_tgsigqueueinfo, getpid(), safemmap__os_thread(), SIGBUS, info);
}

/* (Not pthread_sigmask(3), which leaves out the signals of the C library.) */
static int
set_mask(const sigset_t *mask, sigset_t *ret_before)
{
    return syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, ret_before, _NSIG / 8) < 0
               ? -errno
               : 0;
}

int
safemmap__os_block_signals(sigset_t *ret_before)
{
    sigset_t all;

    memset(&all, 0xff, sizeof(all));
    sigdelset(&all, SIGSYS);
    return set_mask(&all, ret_before);
}

void
safemmap__os_restore_signals(const sigset_t *before)
{
    set_mask(before, NULL);
}

pid_t
safemmap__os_thread(void)
{
    return (pid_t)syscall(SYS_gettid);
}

bool
safemmap__os_has_thread(pid_t thread)
{
    return syscall(SYS_tgkill, getpid(), thread, 0) == 0;
}

bool
safemmap__os_is_poison(int code)
{
    return code == BUS_MCEERR_AR || code == BUS_MCEERR_AO;
}

uintptr_t
safemmap__os_poisoned_size(const siginfo_t *info)
{
    return safemmap__os_is_poison(info->si_code) ? (uintptr_t)1 << info->si_addr_lsb
                                                 : 0;
}

bool
safemmap__os_is_early(const siginfo_t *info)
{
    return info->si_code == BUS_MCEERR_AO;
}

/* ---- A descriptor that is readable or not ------------------------------- */

/* Ours are marked by the signal that would report them as readable, which an eventfd
 * never sends. The mark is the open file's, whatever number it has. */
enum { MARK = SIGBUS };

int
safemmap__os_event_new(void)
{
    int number = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (number >= 0 && fcntl(number, F_SETSIG, MARK) == 0)
        return number;

    int error = -errno;
    if (number >= 0)
        close(number);
    return error;
}

bool
safemmap__os_event_is(int number)
{
    return number >= 0 && fcntl(number, F_GETSIG) == MARK;
}

/* (Full after 2^64 - 2 events, and readable all the same. Not write(2): a thread that
 * is cancelled may end there.) */
void
safemmap__os_event_set(int number)
{
    const uint64_t one = 1;

    syscall(SYS_write, number, &one, sizeof(one));
}

void
safemmap__os_event_clear(int number)
{
    uint64_t count;

    /* It does not block: there may be nothing to clear. */
    if (read(number, &count, sizeof(count)) < 0)
        return;
}

int
safemmap__os_event_renew(int number)
{
    int own;

    /* Without the old one there is room for a new one. */
    close(number);
    own = safemmap__os_event_new();
    if (own < 0 || own == number)
        return own < 0 ? -1 : number;
    if (dup3(own, number, O_CLOEXEC) < 0)
        number = -1;
    close(own);
    return number;
}

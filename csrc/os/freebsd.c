/* Runs inside the signal and outside: what FreeBSD has for itself. (From 13 on.) */
#include "os.h"

#include <fcntl.h>
#include <pthread_np.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- Signals ------------------------------------------------------------ */

/* The codes of what was sent are above those of faults: SI_USER is 0x10001. (That of
 * a truncated file is BUS_OBJERR.) */
bool
safemmap__os_is_fault(const siginfo_t *info)
{
    return info->si_code > 0 && info->si_code < SI_USER;
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
    return pthread_getthreadid_np();
}

/* ---- Memory files ------------------------------------------------------- */

/* (No larger than RLIMIT_FSIZE: a signal would be sent.) */
int
safemmap__os_memory_file(uint64_t least, uint64_t size, uint64_t *ret_size)
{
    struct rlimit limit;
    int fd, error;

    if (getrlimit(RLIMIT_FSIZE, &limit) < 0)
        return -errno;
    if (size > (uint64_t)limit.rlim_cur)
        size = (uint64_t)limit.rlim_cur / least * least;
    if (size == 0)
        return -EFBIG;
    fd = memfd_create("safemmap zeros", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) < 0) {
        error = -errno;
        close(fd);
        return error;
    }
    *ret_size = size;
    return fd;
}

int
safemmap__os_cut(int fd, uint64_t size)
{
    if (ftruncate(fd, (off_t)size) == 0)
        return 0;
    /* EPERM: it is shorter. */
    return errno == EPERM ? 0 : -errno;
}

#include "memory.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 2 };

struct job {
    const char *start;
    size_t size;
    volatile uint64_t sum; /* or else the compiler need not read */
};

static struct job jobs[MOST];
static char targets[MOST][MEMORY_BLOCK];

static void *
copy(void *job_)
{
    struct job *job = job_;

    for (size_t at = 0; at < job->size; at += MEMORY_BLOCK)
        memcpy(targets[job - jobs], job->start + at, MEMORY_BLOCK);
    return NULL;
}

/* Vectors of 16 bytes, which any machine has; four sums, so that no addition waits
 * for the one before it. */
typedef uint64_t vector __attribute__((vector_size(16)));

static void *
read_all(void *job_)
{
    struct job *job = job_;
    const vector *at = (const vector *)job->start;
    const vector *end = (const vector *)(job->start + job->size);
    vector a = {0}, b = {0}, c = {0}, d = {0};

    for (; at < end; at += 4) {
        a += at[0];
        b += at[1];
        c += at[2];
        d += at[3];
    }
    a += b + c + d;
    job->sum = a[0] + a[1];
    return NULL;
}

/* The caller's thread is one of them. */
static int
run(void *(*work)(void *), const void *start, size_t size, int threads)
{
    pthread_t other;
    int error = 0;

    for (int i = 0; i < MOST; i++)
        jobs[i] = (struct job){.start = start, .size = size};
    if (threads == 2)
        error = pthread_create(&other, NULL, work, &jobs[1]);
    if (error != 0)
        return -error;
    work(&jobs[0]);
    if (threads == 2)
        error = pthread_join(other, NULL);
    return -error;
}

int
memory_copy(const void *start, size_t size, int threads)
{
    return run(copy, start, size, threads);
}

int
memory_read(const void *start, size_t size, int threads)
{
    return run(read_all, start, size, threads);
}

static double
now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static void *
map(void *place, size_t size, int flags, int fd)
{
    return mmap(place, size, PROT_READ | PROT_WRITE, flags, fd, 0);
}

double
memory_map_and_unmap(int fd, size_t size, int times)
{
    double start = now();

    for (int i = 0; i < times; i++)
        munmap(map(NULL, size, MAP_SHARED, fd), size);
    return now() - start;
}

double
memory_reset(int fd, size_t size, int times)
{
    char *place = map(NULL, size, MAP_SHARED, fd), *spare;
    const uint64_t all = ~(uint64_t)0;
    uint64_t mask;
    struct stat status;
    double passed = 0;

    for (int i = 0; i < times; i++) {
        map(place, size, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1);
        (void)*(volatile char *)place;
        passed -= now();
        fstat(fd, &status);
        spare = map(NULL, size, MAP_SHARED, fd);
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &mask, sizeof(mask));
        syscall(SYS_gettid);
        map(place, size, MAP_SHARED | MAP_FIXED, fd);
        syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, sizeof(mask));
        munmap(spare, size);
        fcntl(fd, F_GET_SEALS);
        passed += now();
    }
    munmap(place, size);
    return passed;
}

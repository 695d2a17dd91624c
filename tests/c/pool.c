/* A library that has a thread of its own read for its callers. */
#include <pthread.h>
#include <stddef.h>
#include <time.h>

struct job {
    const volatile unsigned char *address;
    struct timespec after;
    unsigned char read;
};

static void *
work(void *argument)
{
    struct job *job = argument;

    job->read = *job->address;
    nanosleep(&job->after, NULL);
    return NULL;
}

/* Reads a byte in another thread, which takes so long after it; returns the byte. */
int
pool_read(const unsigned char *address, long after_ns)
{
    struct job job = {address, {0, after_ns}, 0};
    pthread_t thread;

    if (pthread_create(&thread, NULL, work, &job) != 0)
        return -1;
    pthread_join(thread, NULL);
    return job.read;
}

/* The same for nobody. */
int
pool_read_ahead(const unsigned char *address)
{
    static struct job job;
    pthread_t thread;

    job.address = address;
    return pthread_create(&thread, NULL, work, &job) != 0 ||
           pthread_detach(thread) != 0;
}

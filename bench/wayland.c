/* What libwayland-server's accesses to a pool cost, and this library's, side by side,
 * in one process each. Prints one "name nanoseconds" a line, the median of many
 * rounds.
 * (test_wayland.py builds it.)
 */
#include "shm_pool.h"

#include <safemmap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The library is there on most systems, its headers are not. */
struct wl_display *wl_display_create(void);
int wl_display_init_shm(struct wl_display *display);
struct wl_event_loop *wl_display_get_event_loop(struct wl_display *display);
int wl_event_loop_dispatch(struct wl_event_loop *loop, int timeout);
struct wl_client *wl_client_create(struct wl_display *display, int fd);
void wl_client_destroy(struct wl_client *client);
struct wl_resource *wl_client_get_object(struct wl_client *client, uint32_t id);
struct wl_shm_buffer *wl_shm_buffer_get(struct wl_resource *resource);
void wl_shm_buffer_begin_access(struct wl_shm_buffer *buffer);
void wl_shm_buffer_end_access(struct wl_shm_buffer *buffer);
void *wl_shm_buffer_get_data(struct wl_shm_buffer *buffer);

enum { ROUNDS = 51, SIZE = 1 << 20, PAGE = 4096 };

static double
now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int
by_value(const void *left, const void *right)
{
    double a = *(const double *)left, b = *(const double *)right;

    return (a > b) - (a < b);
}

static void
print_median(const char *name, double *rounds)
{
    qsort(rounds, ROUNDS, sizeof(rounds[0]), by_value);
    printf("%s %.2f\n", name, rounds[ROUNDS / 2]);
    fflush(stdout);
}

static int
file_of_pool(void)
{
    int fd = memfd_create("pool", MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, SIZE) < 0)
        abort();
    return fd;
}

/* Each fault is at another page, as in libwayland, which replaces the whole pool, and
 * is of no more use then: a pool for each. */
typedef void *make_pool(int fd);
typedef void end_pool(void *pool);
typedef const volatile char *begin_access(void *pool);
typedef int end_access(void *pool);

struct library {
    const char *name;
    make_pool *make;
    begin_access *begin;
    end_access *end;
    end_pool *destroy;
};

static void
measure(const struct library *library)
{
    double access[ROUNDS], fault[ROUNDS];
    char name[64];
    int fd = file_of_pool();
    void *pool = library->make(fd);

    for (int i = 0; i < ROUNDS; i++) {
        double start = now();

        for (int j = 0; j < 20000; j++) {
            (void)*library->begin(pool);
            if (library->end(pool) < 0)
                abort();
        }
        access[i] = (now() - start) / 20000;
    }
    library->destroy(pool);
    for (int i = 0; i < ROUNDS; i++) {
        double start;
        const volatile char *at;

        fd = file_of_pool();
        pool = library->make(fd);
        at = library->begin(pool);
        if (ftruncate(fd, 0) < 0)
            abort();
        start = now();
        (void)at[SIZE / 2];
        fault[i] = now() - start;
        library->end(pool);
        library->destroy(pool);
    }
    snprintf(name, sizeof(name), "%s-begin-end", library->name);
    print_median(name, access);
    snprintf(name, sizeof(name), "%s-fault", library->name);
    print_median(name, fault);
}

/* ---- This library -------------------------------------------------------- */

static const struct shm_buffer whole = {0, SIZE / 4, 1, SIZE};

static void *
own_make(int fd)
{
    struct shm_pool *pool;

    if (shm_pool_create(dup(fd), SIZE, &pool) < 0)
        abort();
    return pool;
}

static const volatile char *
own_begin(void *pool)
{
    const uint32_t *pixels;

    if (shm_buffer_begin_access(pool, &whole, &pixels) < 0)
        abort();
    return (const volatile char *)pixels;
}

static int
own_end(void *pool)
{
    return shm_buffer_end_access(pool);
}

static void
own_destroy(void *pool)
{
    shm_pool_destroy(pool);
}

/* ---- libwayland ------------------------------------------------------------ */

enum { DISPLAY = 1, REGISTRY, SHM, POOL, BUFFER, XRGB8888 = 1 };
#define KIND(request, words) ((uint32_t)(words)*4u << 16 | (uint32_t)(request))

static struct wl_display *display;
static struct wl_client *client;
static int peer;

static const struct {
    uint32_t get_registry[3], bind[4];
    char interface[8];
    uint32_t version, id, create_pool[4], create_buffer[8];
} requests = {{DISPLAY, KIND(1, 3), REGISTRY},
              {REGISTRY, KIND(0, 8), 1, sizeof("wl_shm")},
              "wl_shm",
              1,
              SHM,
              {SHM, KIND(0, 4), POOL, SIZE},
              {POOL, KIND(0, 8), BUFFER, 0, SIZE / 4, 1, SIZE, XRGB8888}};

static void
send_requests(int fd)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } rights = {.header = {.cmsg_len = CMSG_LEN(sizeof(int)),
                           .cmsg_level = SOL_SOCKET,
                           .cmsg_type = SCM_RIGHTS}};
    struct iovec data = {(void *)&requests, sizeof(requests)};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &rights,
                             .msg_controllen = sizeof(rights)};

    memcpy(CMSG_DATA(&rights.header), &fd, sizeof(fd));
    if (sendmsg(peer, &message, MSG_NOSIGNAL) != (ssize_t)sizeof(requests))
        abort();
}

/* A client for each pool: one that has taken memory away is disconnected. */
static void *
wayland_make(int fd)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        abort();
    client = wl_client_create(display, pair[0]);
    peer = pair[1];
    send_requests(fd);
    wl_event_loop_dispatch(wl_display_get_event_loop(display), 0);
    return wl_client_get_object(client, BUFFER);
}

static const volatile char *
wayland_begin(void *resource)
{
    struct wl_shm_buffer *buffer = wl_shm_buffer_get(resource);

    wl_shm_buffer_begin_access(buffer);
    return wl_shm_buffer_get_data(buffer);
}

static int
wayland_end(void *resource)
{
    wl_shm_buffer_end_access(wl_shm_buffer_get(resource));
    return 0;
}

static void
wayland_destroy(void *resource)
{
    (void)resource;
    wl_client_destroy(client);
    close(peer);
}

int
main(void)
{
    static const struct library own = {"safemmap", own_make, own_begin, own_end,
                                       own_destroy},
                                wayland = {"libwayland", wayland_make, wayland_begin,
                                           wayland_end, wayland_destroy};
    pid_t child = fork(); /* each in a process without the other's handler */
    int status;

    if (child == 0) {
        display = wl_display_create();
        if (display == NULL || wl_display_init_shm(display) < 0)
            abort();
        measure(&wayland);
        exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0 || status != 0)
        return 1;
    measure(&own);
    return 0;
}

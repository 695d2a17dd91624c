/* Runs outside the signal: has libwayland-server install its SIGBUS handler before it
 * is needed.
 *
 * libwayland installs it once, with the first wl_shm_buffer_begin_access(), above
 * ours. If a fault of ours follows before the next handler check, it puts ours back
 * and raises the signal. We recover from the fault, but libwayland never installs its
 * handler again, and the next fault in a pool of its own kills the compositor. A
 * hostile client can cause both. Nobody can tell afterwards which function it was:
 * raise(3) is the last that it calls, so that it is not on the stack any more.
 *
 * So where the library is loaded, one begin_access of ours comes before that of the
 * program: on a buffer in a display that nobody else sees, by a client which says
 * only what makes one. The next handler check finds the handler, and goes above it.
 */
#include "os.h"

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- The library -------------------------------------------------------- */

/* What is called in it. Objects are not looked into. */
struct library {
    void *(*display_create)(void);
    void (*display_destroy)(void *display);
    int (*display_init_shm)(void *display);
    void *(*display_get_event_loop)(void *display);
    int (*event_loop_dispatch)(void *loop, int timeout);
    void *(*client_create)(void *display, int fd);
    void (*client_destroy)(void *client);
    void *(*client_get_object)(void *client, uint32_t id);
    void *(*shm_buffer_get)(void *resource);
    void (*shm_buffer_begin_access)(void *buffer);
    void (*shm_buffer_end_access)(void *buffer);
};

static bool
find(void *library, const char *name, void *ret_function)
{
    void *function = dlsym(library, name);

    memcpy(ret_function, &function, sizeof(function));
    return function != NULL;
}

static bool
find_all(void *handle, struct library *ret)
{
    return find(handle, "wl_display_create", &ret->display_create) &&
           find(handle, "wl_display_destroy", &ret->display_destroy) &&
           find(handle, "wl_display_init_shm", &ret->display_init_shm) &&
           find(handle, "wl_display_get_event_loop", &ret->display_get_event_loop) &&
           find(handle, "wl_event_loop_dispatch", &ret->event_loop_dispatch) &&
           find(handle, "wl_client_create", &ret->client_create) &&
           find(handle, "wl_client_destroy", &ret->client_destroy) &&
           find(handle, "wl_client_get_object", &ret->client_get_object) &&
           find(handle, "wl_shm_buffer_get", &ret->shm_buffer_get) &&
           find(handle, "wl_shm_buffer_begin_access",
                &ret->shm_buffer_begin_access) &&
           find(handle, "wl_shm_buffer_end_access", &ret->shm_buffer_end_access);
}

/* ---- The client --------------------------------------------------------- */

/* What it calls its objects. wl_shm is the first global of a new display. */
enum { DISPLAY = 1, REGISTRY, SHM, POOL, BUFFER, GLOBAL = 1 };
enum { GET_REGISTRY = 1, BIND = 0, CREATE_POOL = 0, CREATE_BUFFER = 0 };
enum { WIDTH = 1, HEIGHT = 1, STRIDE = 4, XRGB8888 = 1, POOL_SIZE = 4096 };

/* The second word of a request: how many bytes it has, and which it is. */
#define KIND(request, words) ((uint32_t)(words)*4u << 16 | (uint32_t)(request))

static const struct {
    uint32_t get_registry[3];
    uint32_t bind[4];
    char interface[8];
    uint32_t version, new_id;
    uint32_t create_pool[4];
    uint32_t create_buffer[8];
} requests = {
    .get_registry = {DISPLAY, KIND(GET_REGISTRY, 3), REGISTRY},
    .bind = {REGISTRY, KIND(BIND, 8), GLOBAL, sizeof("wl_shm")},
    .interface = "wl_shm",
    .version = 1,
    .new_id = SHM,
    .create_pool = {SHM, KIND(CREATE_POOL, 4), POOL, POOL_SIZE},
    .create_buffer = {POOL, KIND(CREATE_BUFFER, 8), BUFFER, 0, WIDTH, HEIGHT, STRIDE,
                      XRGB8888},
};

/* All at once, and the pool's file with them. */
static bool
send_requests(int socket, int file)
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

    memcpy(CMSG_DATA(&rights.header), &file, sizeof(file));
    return sendmsg(socket, &message, MSG_NOSIGNAL) == (ssize_t)sizeof(requests);
}

/* Takes `server` over. */
static void
access_once(const struct library *library, int server, int socket, int file)
{
    void *display = library->display_create(), *client = NULL, *resource, *buffer;

    if (display != NULL && library->display_init_shm(display) == 0)
        client = library->client_create(display, server);
    if (client == NULL)
        close(server);
    else if (send_requests(socket, file) &&
             library->event_loop_dispatch(library->display_get_event_loop(display),
                                          0) == 0 &&
             (resource = library->client_get_object(client, BUFFER)) != NULL &&
             (buffer = library->shm_buffer_get(resource)) != NULL) {
        library->shm_buffer_begin_access(buffer);
        library->shm_buffer_end_access(buffer);
    }
    if (client != NULL)
        library->client_destroy(client);
    if (display != NULL)
        library->display_destroy(display);
}

/* On a thread of its own, since one that is between a begin_access and its end must
 * not begin another. */
static void *
run_client(void *data)
{
    const struct library *library = data;
    uint64_t size;
    int file = safemmap__os_memory_file(POOL_SIZE, POOL_SIZE, &size), pair[2];

    if (file >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0) {
        access_once(library, pair[0], pair[1], file);
        close(pair[1]);
    }
    if (file >= 0)
        close(file);
    return NULL;
}

static void
have_it_installed(const struct library *library)
{
    sigset_t before;
    pthread_t thread;

    if (safemmap__os_block_signals_of_new_thread(&before) < 0)
        return;
    if (pthread_create(&thread, NULL, run_client, (void *)library) == 0)
        pthread_join(thread, NULL);
    safemmap__os_restore_signals(&before);
}

/* ---- Whether it is loaded ----------------------------------------------- */

static int
read_loads(struct dl_phdr_info *info, size_t size, void *ret_loads)
{
    (void)size;
    *(unsigned long long *)ret_loads = info->dlpi_adds;
    return 1;
}

enum { NAME_SIZE = 4096 };

/* Copies its name: under the lock that is held here nothing can be opened. Wheels
 * bring the library under a longer one. */
static int
find_wayland(struct dl_phdr_info *info, size_t size, void *ret_name)
{
    size_t length = strlen(info->dlpi_name);

    (void)size;
    if (strstr(info->dlpi_name, "/libwayland-server") == NULL || length >= NAME_SIZE)
        return 0;
    memcpy(ret_name, info->dlpi_name, length + 1);
    return 1;
}

static bool done;

void
safemmap__os_forget_wayland(void)
{
    __atomic_store_n(&done, true, __ATOMIC_RELAXED);
}

void
safemmap__os_precede_wayland(void)
{
    static unsigned long long loads_seen;
    unsigned long long loads = 0;
    char name[NAME_SIZE];
    struct library library;
    void *handle;

    if (__atomic_load_n(&done, __ATOMIC_RELAXED))
        return;
    dl_iterate_phdr(read_loads, &loads);
    if (__atomic_exchange_n(&loads_seen, loads, __ATOMIC_RELAXED) == loads ||
        dl_iterate_phdr(find_wayland, name) == 0 ||
        __atomic_exchange_n(&done, true, __ATOMIC_RELAXED))
        return;
    /* It stays open: so does its handler. */
    handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (handle != NULL && find_all(handle, &library))
        have_it_installed(&library);
}

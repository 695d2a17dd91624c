/* A server that draws what clients have in shared memory, and survives hostile ones.
 *
 *     cc -o server server.c shm_pool.c $(pkg-config --cflags --libs safemmap)
 *     ./server SOCKET
 *
 * A message is a struct request, with a file descriptor where it creates a pool. For
 * each there is a struct reply. A client that has taken memory away while it was
 * being drawn is told, and disconnected.
 */
#include "shm_pool.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { CREATE_POOL, RESIZE_POOL, DESTROY_POOL, DRAW };

struct request {
    uint32_t kind, pool; /* which of the client's pools */
    int32_t size;        /* of the pool */
    struct shm_buffer buffer;
};

struct reply {
    int32_t error;     /* 0 or a negative errno */
    uint32_t checksum; /* of what was drawn */
};

enum { CLIENTS = 16, POOLS = 8 };
static struct client {
    int socket; /* -1: none */
    struct shm_pool *pool[POOLS];
} clients[CLIENTS];

static struct {
    unsigned long drawn, refused, taken_away;
} counts;

/* Stands for a renderer: plain code, which knows nothing of clients. */
static uint32_t
render(const uint32_t *pixels, const struct shm_buffer *buffer)
{
    uint32_t checksum = 0;

    for (int32_t y = 0; y < buffer->height; y++)
        for (int32_t x = 0; x < buffer->width; x++)
            checksum = checksum * 31 + pixels[(int64_t)y * (buffer->stride / 4) + x];
    return checksum;
}

static int
draw(struct shm_pool *pool, const struct shm_buffer *buffer, uint32_t *ret_checksum)
{
    const uint32_t *pixels;
    int error = shm_buffer_begin_access(pool, buffer, &pixels);

    if (error < 0)
        return error;
    *ret_checksum = render(pixels, buffer);
    return shm_buffer_end_access(pool);
}

static int
answer(struct client *client, const struct request *request, int fd,
       uint32_t *ret_checksum)
{
    struct shm_pool **pool = &client->pool[request->pool % POOLS];

    if (request->kind == CREATE_POOL && *pool == NULL)
        return shm_pool_create(fd, request->size, pool);
    if (fd >= 0)
        close(fd);
    if (*pool == NULL)
        return -ENOENT;
    switch (request->kind) {
    case RESIZE_POOL:
        return shm_pool_resize(*pool, request->size);
    case DESTROY_POOL:
        shm_pool_destroy(*pool);
        *pool = NULL;
        return 0;
    case DRAW:
        return draw(*pool, &request->buffer, ret_checksum);
    default:
        return -EINVAL;
    }
}

/* The size of the message, and its first descriptor or -1; others are closed. */
static ssize_t
receive(int socket, struct request *ret_request, int *ret_fd)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(8 * sizeof(int))];
    } rights;
    struct iovec data = {ret_request, sizeof(*ret_request)};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = &rights,
                             .msg_controllen = sizeof(rights)};
    ssize_t size = recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

    *ret_fd = -1;
    if (size < 0)
        return size;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL;
         header = CMSG_NXTHDR(&message, header))
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= header->cmsg_len;
             at += sizeof(int)) {
            int fd;

            memcpy(&fd, (const char *)header + at, sizeof(fd));
            if (*ret_fd < 0)
                *ret_fd = fd;
            else
                close(fd);
        }
    return size;
}

static void
disconnect(struct client *client)
{
    close(client->socket);
    client->socket = -1;
    for (int i = 0; i < POOLS; i++) {
        shm_pool_destroy(client->pool[i]);
        client->pool[i] = NULL;
    }
}

static void
serve(struct client *client)
{
    struct reply reply = {0, 0};
    struct request request;
    int fd;
    ssize_t size = receive(client->socket, &request, &fd);

    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size != (ssize_t)sizeof(request)) {
        if (fd >= 0)
            close(fd);
        disconnect(client);
        return;
    }
    reply.error = answer(client, &request, fd, &reply.checksum);
    counts.drawn += request.kind == DRAW && reply.error == 0;
    counts.refused += reply.error < 0 && reply.error != -EFAULT;
    counts.taken_away += reply.error == -EFAULT;
    if (send(client->socket, &reply, sizeof(reply), MSG_NOSIGNAL | MSG_DONTWAIT) <
            0 ||
        reply.error == -EFAULT)
        disconnect(client);
}

static void
welcome(int listener)
{
    int socket = accept(listener, NULL, NULL);

    for (int i = 0; socket >= 0 && i < CLIENTS; i++)
        if (clients[i].socket < 0) {
            clients[i].socket = socket;
            return;
        }
    if (socket >= 0)
        close(socket);
}

static int
listen_at(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (strlen(path) >= sizeof(address.sun_path))
        return -1;
    strcpy(address.sun_path, path);
    if (listener < 0 ||
        bind(listener, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(listener, CLIENTS) < 0)
        return -1;
    return listener;
}

static volatile sig_atomic_t stopped;

static void
stop(int signo)
{
    (void)signo;
    stopped = 1;
}

int
main(int count, char **arguments)
{
    struct pollfd waiting[1 + CLIENTS] = {{.events = POLLIN}};
    struct sigaction action = {.sa_handler = stop}; /* interrupts poll() */

    if (count != 2 || (waiting[0].fd = listen_at(arguments[1])) < 0) {
        perror("usage: server SOCKET");
        return 2;
    }
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    for (int i = 0; i < CLIENTS; i++)
        clients[i].socket = -1;
    puts("listening");
    fflush(stdout);
    while (!stopped) {
        for (int i = 0; i < CLIENTS; i++)
            waiting[1 + i] =
                (struct pollfd){.fd = clients[i].socket, .events = POLLIN};
        if (poll(waiting, 1 + CLIENTS, 1000) <= 0)
            continue;
        for (int i = 0; i < CLIENTS; i++)
            if (waiting[1 + i].revents != 0)
                serve(&clients[i]);
        if (waiting[0].revents != 0)
            welcome(waiting[0].fd);
    }
    for (int i = 0; i < CLIENTS; i++)
        if (clients[i].socket >= 0)
            disconnect(&clients[i]);
    unlink(arguments[1]);
    printf("%lu drawn, %lu refused, %lu taken away\n", counts.drawn, counts.refused,
           counts.taken_away);
    return 0;
}

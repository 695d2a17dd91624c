/* Pools of shared memory from clients, as wl_shm has them: memory that a client may
 * shrink while the server reads it. */
#ifndef SHM_POOL_H
#define SHM_POOL_H

#include <stdint.h>

enum { SHM_POOL_LARGEST = 256 << 20 };

struct shm_pool;

/* Maps `size` bytes of the client's file, as many as it says. Takes the descriptor
 * over. Fails with -EINVAL (no regular file, or shorter than that), or as mmap(2) and
 * safemmap_region_add() do. */
int shm_pool_create(int fd, int32_t size, struct shm_pool **ret_pool);
void shm_pool_destroy(struct shm_pool *pool);

/* The client has made its file longer. Buffers are addressed anew afterwards. */
int shm_pool_resize(struct shm_pool *pool, int32_t size);

/* A buffer in a pool. */
struct shm_buffer {
    int32_t offset, width, height, stride; /* in bytes; pixels have four */
};

/* The buffer's pixels, for any code that takes a pointer: no access can kill the
 * server, nor stop it halfway. -EINVAL: the buffer does not lie in the pool; -EFAULT:
 * the client has taken its memory away. May be nested; needs no particular thread. */
int shm_buffer_begin_access(struct shm_pool *pool, const struct shm_buffer *buffer,
                            const uint32_t **ret_pixels);
/* 0; or -EFAULT: some of what was read were zeros in the place of pages that are
 * gone. Then the pool is of no use any more, and the client is to be told. */
int shm_buffer_end_access(struct shm_pool *pool);

#endif

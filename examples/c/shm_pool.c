#include "shm_pool.h"

#include <errno.h>
#include <safemmap.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct shm_pool {
    unsigned char *map;
    int32_t size;
    struct safemmap_region region;
};

/* Whole pages. */
static size_t
mapped_size(int32_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return ((size_t)size + page - 1) / page * page;
}

static int
map_file(int fd, int32_t size, unsigned char **ret_map)
{
    struct stat status;
    void *map;

    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode) || size <= 0 || size > SHM_POOL_LARGEST ||
        status.st_size < size)
        return -EINVAL;
    map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    *ret_map = map;
    return 0;
}

int
shm_pool_create(int fd, int32_t size, struct shm_pool **ret_pool)
{
    struct shm_pool *pool = calloc(1, sizeof(*pool));
    int error = pool == NULL ? -ENOMEM : map_file(fd, size, &pool->map);

    if (error == 0) {
        pool->size = size;
        pool->region = (struct safemmap_region){
            .start = (uintptr_t)pool->map,
            .end = (uintptr_t)pool->map + mapped_size(size),
            .page_size = (size_t)sysconf(_SC_PAGESIZE),
            .protection = PROT_READ,
            .fd = fd,
            .name = "shm pool",
        };
        if ((error = safemmap_install()) == 0)
            error = safemmap_region_add(&pool->region);
        if (error < 0)
            munmap(pool->map, (size_t)size);
    }
    if (error < 0) {
        close(fd);
        free(pool);
        return error;
    }
    *ret_pool = pool;
    return 0;
}

void
shm_pool_destroy(struct shm_pool *pool)
{
    if (pool == NULL)
        return;
    safemmap_region_remove(&pool->region);
    munmap(pool->map, (size_t)pool->size);
    close(pool->region.fd);
    free(pool);
}

int
shm_pool_resize(struct shm_pool *pool, int32_t size)
{
    unsigned char *map;
    int error;

    if (size < pool->size)
        return -EINVAL;
    error = map_file(pool->region.fd, size, &map);
    if (error < 0)
        return error;
    /* The new mapping is covered before anybody knows it, the old one until it goes.
     */
    error = safemmap_region_update(&pool->region, (uintptr_t)map,
                                   (uintptr_t)map + mapped_size(size));
    if (error < 0) {
        munmap(map, (size_t)size);
        return error;
    }
    munmap(pool->map, (size_t)pool->size);
    pool->map = map;
    pool->size = size;
    return 0;
}

static bool
lies_in(const struct shm_pool *pool, const struct shm_buffer *buffer)
{
    return buffer->offset >= 0 && buffer->offset % 4 == 0 && buffer->width > 0 &&
           buffer->height > 0 && buffer->stride % 4 == 0 &&
           buffer->stride / 4 >= buffer->width &&
           buffer->offset + (int64_t)buffer->stride * buffer->height <= pool->size;
}

int
shm_buffer_begin_access(struct shm_pool *pool, const struct shm_buffer *buffer,
                        const uint32_t **ret_pixels)
{
    struct safemmap_fault fault;
    unsigned char byte;

    if (!lies_in(pool, buffer))
        return -EINVAL;
    if (safemmap_region_poisoned(&pool->region))
        return -EFAULT;
    /* Looks after the handler, too, every now and then. */
    if (safemmap_load(pool->map + buffer->offset, &byte, &fault) < 0)
        return -EFAULT;
    *ret_pixels = (const void *)(pool->map + buffer->offset);
    return 0;
}

int
shm_buffer_end_access(struct shm_pool *pool)
{
    return safemmap_region_poisoned(&pool->region) ? -EFAULT : 0;
}

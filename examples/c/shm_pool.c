#include "shm_pool.h"

#include <errno.h>
#include <linux/magic.h>
#include <safemmap.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

struct shm_pool {
    int32_t size;
    struct safemmap_region region;
};

/* A range of whole pages, which are larger where the file is one of huge pages. */
struct mapping {
    uintptr_t start, end;
    size_t page_size;
};

static void
unmap(uintptr_t start, uintptr_t end)
{
    munmap((void *)start, end - start);
}

static int
map_file(int fd, int32_t size, struct mapping *ret_mapping)
{
    struct stat status;
    struct statfs filesystem;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), length;
    void *map;

    if (fstat(fd, &status) < 0 || fstatfs(fd, &filesystem) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode) || size <= 0 || size > SHM_POOL_LARGEST ||
        status.st_size < size)
        return -EINVAL;
    if (filesystem.f_type == HUGETLBFS_MAGIC)
        page = (size_t)filesystem.f_bsize;
    length = ((size_t)size + page - 1) / page * page;
    map = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    *ret_mapping = (struct mapping){(uintptr_t)map, (uintptr_t)map + length, page};
    return 0;
}

int
shm_pool_create(int fd, int32_t size, struct shm_pool **ret_pool)
{
    struct shm_pool *pool = calloc(1, sizeof(*pool));
    struct mapping mapping;
    int error = pool == NULL ? -ENOMEM : map_file(fd, size, &mapping);

    if (error == 0) {
        pool->size = size;
        pool->region = (struct safemmap_region){
            .start = mapping.start,
            .end = mapping.end,
            .page_size = mapping.page_size,
            .protection = PROT_READ,
            .fd = fd,
            .name = "shm pool",
        };
        if ((error = safemmap_install()) == 0)
            error = safemmap_region_add(&pool->region);
        if (error < 0)
            unmap(mapping.start, mapping.end);
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
    unmap(pool->region.start, pool->region.end);
    close(pool->region.fd);
    free(pool);
}

int
shm_pool_resize(struct shm_pool *pool, int32_t size)
{
    const uintptr_t start = pool->region.start, end = pool->region.end;
    struct mapping mapping;
    int error;

    if (size < pool->size)
        return -EINVAL;
    error = map_file(pool->region.fd, size, &mapping);
    if (error < 0)
        return error;
    /* The new mapping is covered before anybody knows it, the old one until it goes.
     */
    error = safemmap_region_update(&pool->region, mapping.start, mapping.end);
    if (error < 0) {
        unmap(mapping.start, mapping.end);
        return error;
    }
    unmap(start, end);
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
    const char *pixels;
    unsigned char byte;

    if (!lies_in(pool, buffer))
        return -EINVAL;
    if (safemmap_region_poisoned(&pool->region))
        return -EFAULT;
    pixels = (const char *)pool->region.start + buffer->offset;
    /* Looks after the handler, too, every now and then. */
    if (safemmap_load(pixels, &byte, &fault) < 0)
        return -EFAULT;
    *ret_pixels = (const void *)pixels;
    return 0;
}

int
shm_buffer_end_access(struct shm_pool *pool)
{
    return safemmap_region_poisoned(&pool->region) ? -EFAULT : 0;
}

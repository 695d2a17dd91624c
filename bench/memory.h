/* memory.h: what the memory alone takes, on one thread or on two.
 *
 * Each of the threads goes through all of the range, whose start is that of a page.
 * The first two return 0 or a negative errno.
 */
#include <stddef.h>

enum { MEMORY_BLOCK = 1 << 20 };

/* Copies one block after the other, all to the same place, a place of each thread's
 * own. `size` is a multiple of a block. */
int memory_copy(const void *start, size_t size, int threads);

/* Adds the bytes up, as words. `size` is a multiple of 64. */
int memory_read(const void *start, size_t size, int threads);

/* Maps so much of the file, and unmaps it, so many times. Returns nanoseconds. */
double memory_map_and_unmap(int fd, size_t size, int times);

/* Asks the kernel for what mmap.reset() asks, so many times, each time with a page in
 * the place of one that is gone. Returns nanoseconds. */
double memory_reset(int fd, size_t size, int times);

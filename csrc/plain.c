/* Runs only outside the signal: the operations without protection, for memory that
 * nobody can take away. */
#include "internal.h"
#include "operations.h"

static int
plain_copy(void *target, const void *source, size_t size,
           struct safemmap_fault *ret_fault)
{
    (void)ret_fault;
    safemmap__move(target, source, size);
    return 0;
}

static int
plain_load(const void *source, unsigned char *ret_byte,
           struct safemmap_fault *ret_fault)
{
    (void)ret_fault;
    *ret_byte = *(const volatile unsigned char *)source;
    return 0;
}

static int
plain_store(void *target, unsigned char byte, struct safemmap_fault *ret_fault)
{
    (void)ret_fault;
    *(volatile unsigned char *)target = byte;
    return 0;
}

static int
plain_gather(void *target, const void *source, ptrdiff_t step, size_t count,
             struct safemmap_fault *ret_fault)
{
    (void)ret_fault;
    safemmap__gather(target, source, step, count);
    return 0;
}

static int
plain_scatter(void *target, ptrdiff_t step, const void *source, size_t count,
              struct safemmap_fault *ret_fault)
{
    (void)ret_fault;
    safemmap__scatter(target, step, source, count);
    return 0;
}

static int
plain_compare(const void *left, const void *right, size_t size, int *ret_order,
              struct safemmap_fault *ret_fault)
{
    (void)ret_fault;
    *ret_order = memcmp(left, right, size);
    return 0;
}

static int
plain_find(const void *text, size_t size, const void *pattern, size_t pattern_size,
           ptrdiff_t *ret_index, struct safemmap_fault *ret_fault)
{
    (void)ret_fault;
    *ret_index = safemmap__index(
        safemmap__search_forward(text, size, pattern, pattern_size), text);
    return 0;
}

static int
plain_rfind(const void *text, size_t size, const void *pattern, size_t pattern_size,
            ptrdiff_t *ret_index, struct safemmap_fault *ret_fault)
{
    (void)ret_fault;
    *ret_index = safemmap__index(
        safemmap__search_backward(text, size, pattern, pattern_size), text);
    return 0;
}

const struct safemmap_operations safemmap_plain = {
    plain_copy,    plain_load,    plain_store, plain_gather,
    plain_scatter, plain_compare, plain_find,  plain_rfind,
};

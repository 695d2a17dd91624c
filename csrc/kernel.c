/* Runs only outside the signal: the operations without a signal handler.
 *
 * process_vm_readv(2) on the process itself has the kernel copy, and the kernel
 * answers with a short count where a page on either side cannot be had. It costs a
 * system call for every operation.
 */
#include "internal.h"
#include "operations.h"

#include <errno.h>
#include <stdlib.h>

/* Bytes that are held in a buffer at a time. */
#define CHUNK ((size_t)64 * 1024)
/* Pieces that the kernel is given at a time. */
#define PIECES 256
/* With so many stops, at pages which are there again, a copy gives up. */
#define ATTEMPTS 3

static size_t
smaller(size_t left, size_t right)
{
    return left < right ? left : right;
}

/* safemmap__os_transfer() for any size: the kernel takes 2 GiB at a time. Returns 0
 * or a negative errno. */
static int
transfer_all(void *target, const void *source, size_t size, size_t *ret_done)
{
    ssize_t done = 1;

    for (*ret_done = 0; *ret_done < size && done > 0; *ret_done += (size_t)done) {
        struct iovec to = {(char *)target + *ret_done, size - *ret_done};
        struct iovec from = {(char *)source + *ret_done, size - *ret_done};

        done = safemmap__os_transfer(&to, 1, &from, 1);
        if (done < 0)
            return (int)done;
    }
    return 0;
}

static bool
is_readable(uintptr_t address)
{
    unsigned char byte;
    size_t done;

    return transfer_all(&byte, (const void *)address, 1, &done) == 0 && done == 1;
}

/* The first byte of the span that is on a page which is gone, or 0. */
static uintptr_t
first_gone(const struct span *span)
{
    uintptr_t at = span->start;

    while (at < span->end && is_readable(at))
        at = first_from(span, page_of(at) + safemmap__page_size);
    return at < span->end ? at : 0;
}

static int
gone(const struct span *span, uintptr_t address, struct safemmap_fault *ret_fault)
{
    uintptr_t page = page_of(address);

    ret_fault->address = page > span->start ? page : span->start;
    ret_fault->code = BUS_ADRERR;
    return -EFAULT;
}

/* ---- Copies ------------------------------------------------------------ */

/* What to say of a copy that came as far as `stopped` in its target. 0: that it is
 * worth another try, since all is there again. */
static int
explain(struct span source, struct span target, uintptr_t stopped, int attempt,
        struct safemmap_fault *ret_fault)
{
    uintptr_t lost;

    if ((lost = first_gone(&source)) != 0)
        return gone(&source, lost, ret_fault);
    if ((lost = first_gone(&target)) != 0)
        return gone(&target, lost, ret_fault);
    /* Or it can be read, and not be written. */
    return attempt < ATTEMPTS ? 0 : gone(&target, stopped, ret_fault);
}

/* A copy under way. */
struct copy {
    struct span source, target;
    int attempt;
    struct safemmap_fault *ret_fault;
};

/* Copies a part, or what lies in between, for the bytes of the target from `place`
 * on. If it stops, it goes on from there: where the sides overlap, what came before
 * is no longer the source's. */
static int
transfer_part(struct copy *copy, unsigned char *target, const unsigned char *source,
              size_t size, uintptr_t place)
{
    int error = 0;

    for (size_t at = 0, done; at < size && error == 0; at += done) {
        error = transfer_all(target + at, source + at, size - at, &done);
        if (error == 0 && done < size - at)
            error = explain(copy->source, copy->target, place + at + done,
                            copy->attempt++, copy->ret_fault);
    }
    return error;
}

/* Through a buffer, from one end or the other. */
static int
move(struct copy *copy, unsigned char *target, const unsigned char *source,
     size_t size)
{
    size_t chunk = smaller(size, CHUNK);
    unsigned char *buffer = malloc(chunk);
    int error = 0;

    if (buffer == NULL)
        return -ENOMEM;
    for (size_t moved = 0; moved < size && error == 0; moved += chunk) {
        size_t at = moved;
        uintptr_t place;

        chunk = smaller(size - moved, CHUNK);
        if (target > source)
            at = size - moved - chunk;
        place = (uintptr_t)target + at;
        error = transfer_part(copy, buffer, source + at, chunk, place);
        if (error == 0)
            error = transfer_part(copy, target + at, buffer, chunk, place);
    }
    free(buffer);
    return error;
}

static int
kernel_copy(void *target, const void *source, size_t size,
            struct safemmap_fault *ret_fault)
{
    struct copy copy = {contiguous(source, size, false),
                        contiguous(target, size, true), 1, ret_fault};

    if ((uintptr_t)target < (uintptr_t)source + size &&
        (uintptr_t)source < (uintptr_t)target + size)
        return move(&copy, target, source, size);
    return transfer_part(&copy, target, source, size, (uintptr_t)target);
}

static int
kernel_load(const void *source, unsigned char *ret_byte,
            struct safemmap_fault *ret_fault)
{
    unsigned char byte;
    int error = kernel_copy(&byte, source, 1, ret_fault);

    if (error == 0)
        *ret_byte = byte;
    return error;
}

static int
kernel_store(void *target, unsigned char byte, struct safemmap_fault *ret_fault)
{
    return kernel_copy(target, &byte, 1, ret_fault);
}

/* ---- Strided copies ---------------------------------------------------- */

/* Some bytes of each side, one of which has them `step` apart, in pieces of one. */
static ssize_t
transfer_strided(unsigned char *target, ptrdiff_t target_step,
                 const unsigned char *source, ptrdiff_t source_step, size_t count)
{
    const ptrdiff_t step = target_step == 1 ? source_step : target_step;
    const unsigned char *first = target_step == 1 ? source : target;
    struct iovec piece[PIECES];
    struct iovec whole = {target_step == 1 ? (void *)target : (void *)source, count};

    for (size_t i = 0; i < count; i++)
        piece[i] = (struct iovec){(void *)(first + (ptrdiff_t)i * step), 1};
    return target_step == 1 ? safemmap__os_transfer(&whole, 1, piece, count)
                            : safemmap__os_transfer(piece, count, &whole, 1);
}

static int
copy_strided(unsigned char *target, ptrdiff_t target_step,
             const unsigned char *source, ptrdiff_t source_step, size_t count,
             struct safemmap_fault *ret_fault)
{
    int attempt = 1;

    for (size_t at = 0; at < count;) {
        size_t pieces = smaller(count - at, PIECES);
        unsigned char *to = target + (ptrdiff_t)at * target_step;
        ssize_t done =
            transfer_strided(to, target_step, source + (ptrdiff_t)at * source_step,
                             source_step, pieces);

        if (done < 0)
            return (int)done;
        if ((size_t)done < pieces) {
            uintptr_t stopped = (uintptr_t)(to + done * target_step);
            int error = explain(strided(source, source_step, count, false),
                                strided(target, target_step, count, true), stopped,
                                attempt++, ret_fault);

            if (error < 0)
                return error;
        }
        at += (size_t)done;
    }
    return 0;
}

static int
kernel_gather(void *target, const void *source, ptrdiff_t step, size_t count,
              struct safemmap_fault *ret_fault)
{
    return copy_strided(target, 1, source, step, count, ret_fault);
}

static int
kernel_scatter(void *target, ptrdiff_t step, const void *source, size_t count,
               struct safemmap_fault *ret_fault)
{
    return copy_strided(target, step, source, 1, count, ret_fault);
}

/* ---- Comparing and searching ------------------------------------------- */

/* The first page of two spans that is gone; if they are there again, where reading
 * stopped. */
static int
lost_of(struct span first, size_t first_done, struct span second, size_t second_done,
        struct safemmap_fault *ret_fault)
{
    uintptr_t lost;

    if ((lost = first_gone(&first)) != 0)
        return gone(&first, lost, ret_fault);
    if ((lost = first_gone(&second)) != 0)
        return gone(&second, lost, ret_fault);
    if (first.start + first_done < first.end)
        return gone(&first, first.start + first_done, ret_fault);
    return gone(&second, second.start + second_done, ret_fault);
}

static int
kernel_compare(const void *left, const void *right, size_t size, int *ret_order,
               struct safemmap_fault *ret_fault)
{
    unsigned char *buffer = malloc(2 * smaller(size, CHUNK) + 1);
    size_t done[2] = {0, 0};
    int order = 0, error = 0;

    if (buffer == NULL)
        return -ENOMEM;
    for (size_t at = 0; at < size && order == 0 && error == 0; at += CHUNK) {
        size_t chunk = smaller(size - at, CHUNK);

        error = transfer_all(buffer, (const char *)left + at, chunk, &done[0]);
        if (error == 0)
            error = transfer_all(buffer + chunk, (const char *)right + at, chunk,
                                 &done[1]);
        if (error < 0)
            break;
        order = memcmp(buffer, buffer + chunk, smaller(done[0], done[1]));
        if (order != 0)
            break;
        if (done[0] < chunk || done[1] < chunk)
            error = lost_of(contiguous(left, size, false), at + done[0],
                            contiguous(right, size, false), at + done[1], ret_fault);
    }
    free(buffer);
    if (error == 0)
        *ret_order = order;
    return error;
}

/* Pieces of the text that overlap by less than a pattern, and the pattern. */
struct search {
    const unsigned char *text, *pattern;
    unsigned char *window;
    size_t size, pattern_size, window_size;
};

/* Lowest first; bytes beyond the match need not be there. */
static int
search_up(const struct search *search, ptrdiff_t *ret_index,
          struct safemmap_fault *ret_fault)
{
    size_t done, chunk;
    int error;

    for (size_t at = 0; search->size - at >= search->pattern_size;
         at += search->window_size - search->pattern_size + 1) {
        const void *found;

        chunk = smaller(search->size - at, search->window_size);
        error = transfer_all(search->window, search->text + at, chunk, &done);
        if (error < 0)
            return error;
        found = safemmap__search_forward(search->window, done, search->pattern,
                                         search->pattern_size);
        if (found != NULL) {
            *ret_index = (ptrdiff_t)at + safemmap__index(found, search->window);
            return 0;
        }
        if (done < chunk) {
            struct span text = contiguous(search->text, search->size, false);

            return gone(&text, text.start + at + done, ret_fault);
        }
        if (at + chunk == search->size)
            break;
    }
    *ret_index = -1;
    return 0;
}

/* Highest first; bytes before the match need not be there. */
static int
search_down(const struct search *search, ptrdiff_t *ret_index,
            struct safemmap_fault *ret_fault)
{
    size_t end = search->size, done, chunk;
    int error;

    while (end >= search->pattern_size) {
        const unsigned char *start;
        const void *found;
        size_t lost = 0; /* of the window, at its start */

        chunk = smaller(end, search->window_size);
        start = search->text + end - chunk;
        error = transfer_all(search->window, start, chunk, &done);
        /* What lies behind the pages that are gone counts. */
        while (error == 0 && lost + done < chunk) {
            uintptr_t next = (uintptr_t)start + lost + done + safemmap__page_size;

            lost = (next & ~(safemmap__page_size - 1)) - (uintptr_t)start;
            lost = smaller(lost, chunk);
            error = transfer_all(search->window + lost, start + lost, chunk - lost,
                                 &done);
        }
        if (error < 0)
            return error;
        found = safemmap__search_backward(search->window + lost, chunk - lost,
                                          search->pattern, search->pattern_size);
        if (found != NULL) {
            *ret_index =
                (ptrdiff_t)(end - chunk) + safemmap__index(found, search->window);
            return 0;
        }
        if (lost > 0) {
            struct span text = contiguous(search->text, search->size, false);
            uintptr_t first = first_gone(&text);

            return gone(&text, first != 0 ? first : (uintptr_t)start, ret_fault);
        }
        if (chunk == end)
            break;
        end -= chunk - search->pattern_size + 1;
    }
    *ret_index = -1;
    return 0;
}

static int
find_with(int (*run)(const struct search *, ptrdiff_t *, struct safemmap_fault *),
          const void *text, size_t size, const void *pattern, size_t pattern_size,
          ptrdiff_t *ret_index, struct safemmap_fault *ret_fault)
{
    size_t window_size = smaller(size, CHUNK + pattern_size), done;
    unsigned char *buffer = malloc(pattern_size + window_size + 1);
    struct search search = {text, buffer,       buffer + pattern_size,
                            size, pattern_size, window_size};
    int error;

    if (pattern_size == 0 || size < pattern_size) {
        free(buffer);
        *ret_index = pattern_size > 0 ? -1 : run == search_up ? 0 : (ptrdiff_t)size;
        return 0;
    }
    if (buffer == NULL)
        return -ENOMEM;
    error = transfer_all(buffer, pattern, pattern_size, &done);
    if (error == 0 && done < pattern_size)
        error = lost_of(contiguous(text, size, false), size,
                        contiguous(pattern, pattern_size, false), done, ret_fault);
    if (error == 0)
        error = run(&search, ret_index, ret_fault);
    free(buffer);
    return error;
}

static int
kernel_find(const void *text, size_t size, const void *pattern, size_t pattern_size,
            ptrdiff_t *ret_index, struct safemmap_fault *ret_fault)
{
    return find_with(search_up, text, size, pattern, pattern_size, ret_index,
                     ret_fault);
}

static int
kernel_rfind(const void *text, size_t size, const void *pattern, size_t pattern_size,
             ptrdiff_t *ret_index, struct safemmap_fault *ret_fault)
{
    return find_with(search_down, text, size, pattern, pattern_size, ret_index,
                     ret_fault);
}

const struct safemmap_operations safemmap_kernel = {
    kernel_copy,    kernel_load,    kernel_store, kernel_gather,
    kernel_scatter, kernel_compare, kernel_find,  kernel_rfind,
};

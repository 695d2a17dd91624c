/* Whether a fault is one of a copy that needs no guard. */
#ifndef SAFEMMAP_OPERANDS_H
#define SAFEMMAP_OPERANDS_H

#include "arch.h"
#include "../os/os.h"

/* Whether so many bytes from `start` on touch the page of `address`. */
static inline bool
on_pages_of(uintptr_t start, uintptr_t size, uintptr_t address)
{
    const uintptr_t page = address & ~(safemmap__page_size - 1);

    return page + safemmap__page_size > start && page < start + size;
}

#endif

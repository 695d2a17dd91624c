/* Runs nowhere: without assembly every copy takes a guard. */
#include "arch.h"

size_t safemmap__fixup_short = 0;
size_t safemmap__fixup_long = 0;
size_t safemmap__fixup_near = 0;
safemmap__fixup_reporter *safemmap__fixup_report;

int
safemmap__fixup_copy(void *target, const void *source, size_t size,
                     struct safemmap_fault *ret_fault, int saved_errno)
{
    (void)target;
    (void)source;
    (void)size;
    (void)ret_fault;
    (void)saved_errno;
    __builtin_trap();
}

int
safemmap__fixup_copy_long(void *target, const void *source, size_t size,
                          struct safemmap_fault *ret_fault, int saved_errno)
{
    return safemmap__fixup_copy(target, source, size, ret_fault, saved_errno);
}

int
safemmap__fixup_load(void *target, const void *source, size_t one,
                     struct safemmap_fault *ret_fault, int saved_errno)
{
    return safemmap__fixup_copy(target, source, one, ret_fault, saved_errno);
}

int
safemmap__fixup_find(const void *byte, const void *text, size_t size,
                     struct safemmap_fault *ret_fault, int saved_errno,
                     ptrdiff_t *ret_index)
{
    (void)byte;
    return safemmap__fixup_copy(ret_index, text, size, ret_fault, saved_errno);
}

bool
safemmap__fixup_covers(const ucontext_t *context, uintptr_t address)
{
    (void)context;
    (void)address;
    return false;
}

_Noreturn void
safemmap__fixup_leave(const ucontext_t *context, struct safemmap_fault fault)
{
    (void)context;
    (void)fault;
    __builtin_trap();
}

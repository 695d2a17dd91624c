/* Runs only inside the signal: a context of which nothing is known. */
#include "arch.h"

const size_t safemmap__last_fault_offset = 0;

uintptr_t
safemmap__last_fault_address(const struct safemmap__last_fault *fault)
{
    (void)fault;
    return 0;
}

bool
safemmap__last_fault_equals(const struct safemmap__last_fault *left,
                            const struct safemmap__last_fault *right)
{
    (void)left;
    (void)right;
    return false;
}

enum safemmap__access_kind
safemmap__access_of(const ucontext_t *context)
{
    (void)context;
    return SAFEMMAP__UNKNOWN;
}

bool
safemmap__is_genuine(const ucontext_t *context)
{
    (void)context;
    return false;
}

void
safemmap__forget_fault(ucontext_t *context)
{
    (void)context;
}

uintptr_t
safemmap__stack_pointer(const ucontext_t *context)
{
    (void)context;
    return 0;
}

bool
safemmap__is_after_system_call(const ucontext_t *context)
{
    (void)context;
    return false;
}

void
safemmap__enter_handler(void)
{
}

void
safemmap__restore_floating_point(const ucontext_t *context)
{
    (void)context;
}

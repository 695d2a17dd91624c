/* Runs only inside the signal: what a context says of the code that was interrupted.
 */
#include "arch.h"
#include "../os/os.h"

#include <string.h>

/* ---- The last fault ----------------------------------------------------- */

const size_t safemmap__last_fault_offset =
    offsetof(ucontext_t, uc_mcontext.fault_address);

uintptr_t
safemmap__last_fault_address(const struct safemmap__last_fault *fault)
{
    return fault->word[0];
}

bool
safemmap__last_fault_equals(const struct safemmap__last_fault *left,
                            const struct safemmap__last_fault *right)
{
    return left->word[0] == right->word[0];
}

/* ---- Registers ---------------------------------------------------------- */

uintptr_t
safemmap__stack_pointer(const ucontext_t *context)
{
    return (uintptr_t)context->uc_mcontext.sp;
}

bool
safemmap__is_after_system_call(const ucontext_t *context)
{
    static const unsigned char system_call[] = {0x01, 0x00, 0x00, 0xd4}; /* svc #0 */
    unsigned char code[sizeof(system_call)];
    uintptr_t next = (uintptr_t)context->uc_mcontext.pc;

    return safemmap__os_read(code, next - sizeof(code), sizeof(code)) ==
               sizeof(code) &&
           memcmp(code, system_call, sizeof(code)) == 0;
}

/* The kernel leaves it as it is. */
void
safemmap__restore_floating_point(const ucontext_t *context)
{
    (void)context;
}

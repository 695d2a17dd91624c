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

/* The records that follow the registers: how the kernel tells what is in a context.
 */
struct record {
    uint32_t magic, size;
};
#define SYNDROME_MAGIC 0x45535201u
enum { FLOATS_MAGIC = 0x46508001, FLOATS_SIZE = 528 };
/* That the access was one by a load or store, and which of the two. */
enum { CLASS_SHIFT = 26, DATA_ABORT_LOWER = 0x24, WRITE_BIT = 1 << 6 };

enum safemmap__access_kind
safemmap__access_of(const ucontext_t *context)
{
    const unsigned char *at, *end;

    if (context == NULL)
        return SAFEMMAP__UNKNOWN;
    at = (const void *)context->uc_mcontext.__reserved;
    end = at + sizeof(context->uc_mcontext.__reserved);
    while (end - at >= (ptrdiff_t)(sizeof(struct record) + sizeof(uint64_t))) {
        struct record record;
        uint64_t syndrome;

        memcpy(&record, at, sizeof(record));
        if (record.size == 0 || record.size > (size_t)(end - at))
            break;
        if (record.magic == SYNDROME_MAGIC) {
            memcpy(&syndrome, at + sizeof(record), sizeof(syndrome));
            if (syndrome >> CLASS_SHIFT != DATA_ABORT_LOWER)
                break;
            return (syndrome & WRITE_BIT) != 0 ? SAFEMMAP__STORE : SAFEMMAP__LOAD;
        }
        at += record.size;
    }
    return SAFEMMAP__UNKNOWN;
}

void
safemmap__forget_fault(ucontext_t *context)
{
    context->uc_mcontext.fault_address = 0;
}

/* The record of the floating-point registers is always the first. */
bool
safemmap__is_genuine(const ucontext_t *context)
{
    struct {
        unsigned long flags;
        ucontext_t *link;
    } head;
    struct record record;

    return safemmap__os_read(&head, (uintptr_t)context, sizeof(head)) ==
               sizeof(head) &&
           safemmap__os_read(&record, (uintptr_t)context->uc_mcontext.__reserved,
                             sizeof(record)) == sizeof(record) &&
           head.flags == 0 && head.link == NULL && record.magic == FLOATS_MAGIC &&
           record.size == FLOATS_SIZE;
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

void
safemmap__enter_handler(void)
{
}

/* The kernel leaves it as it is. */
void
safemmap__restore_floating_point(const ucontext_t *context)
{
    (void)context;
}

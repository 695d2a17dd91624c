/* Runs only inside the signal: what a context says of the code that was interrupted.
 */
#include "arch.h"
#include "../os/os.h"

#include <string.h>

/* ---- The last fault ----------------------------------------------------- */

enum { AT_ERROR = 0, AT_TRAP = REG_TRAPNO - REG_ERR, AT_ADDRESS = REG_CR2 - REG_ERR };
const size_t safemmap__last_fault_offset =
    offsetof(ucontext_t, uc_mcontext.gregs[REG_ERR]);

_Static_assert((int)AT_ADDRESS == (int)SAFEMMAP__FAULT_WORDS - 1,
               "the words lie elsewhere");

uintptr_t
safemmap__last_fault_address(const struct safemmap__last_fault *fault)
{
    return fault->word[AT_ADDRESS];
}

bool
safemmap__last_fault_equals(const struct safemmap__last_fault *left,
                            const struct safemmap__last_fault *right)
{
    return left->word[AT_ADDRESS] == right->word[AT_ADDRESS] &&
           left->word[AT_ERROR] == right->word[AT_ERROR] &&
           left->word[AT_TRAP] == right->word[AT_TRAP];
}

enum safemmap__access_kind
safemmap__access_of(const ucontext_t *context)
{
    if (context == NULL)
        return SAFEMMAP__UNKNOWN;
    return (context->uc_mcontext.gregs[REG_ERR] & 2) != 0 ? SAFEMMAP__STORE
                                                          : SAFEMMAP__LOAD;
}

void
safemmap__forget_fault(ucontext_t *context)
{
    context->uc_mcontext.gregs[REG_CR2] = 0;
}

/* UC_FP_XSTATE and FP_XSTATE_MAGIC1, whose headers exclude glibc's own. */
enum { XSTATE = 1, MAGIC = 0x46505853, MAGIC_OFFSET = 464, FARTHEST = 64 * 1024 };

/* The kernel puts them above the context; and into what the processor leaves of them
 * to software, a number. */
bool
safemmap__is_genuine(const ucontext_t *context)
{
    uintptr_t start = (uintptr_t)context, vectors;
    unsigned long flags;
    uint32_t magic = 0;

    if (safemmap__os_read(&flags, start, sizeof(flags)) != sizeof(flags) ||
        safemmap__os_read(&vectors, (uintptr_t)&context->uc_mcontext.fpregs,
                          sizeof(vectors)) != sizeof(vectors) ||
        vectors <= start || vectors - start > FARTHEST)
        return false;
    if ((flags & XSTATE) == 0)
        return true; /* an old processor */
    safemmap__os_read(&magic, vectors + MAGIC_OFFSET, sizeof(magic));
    return magic == MAGIC;
}

/* ---- Registers ---------------------------------------------------------- */

uintptr_t
safemmap__stack_pointer(const ucontext_t *context)
{
    return (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
}

bool
safemmap__is_after_system_call(const ucontext_t *context)
{
    static const unsigned char system_call[] = {0x0f, 0x05}; /* syscall */
    unsigned char code[sizeof(system_call)];
    uintptr_t next = (uintptr_t)context->uc_mcontext.gregs[REG_RIP];

    return safemmap__os_read(code, next - sizeof(code), sizeof(code)) ==
               sizeof(code) &&
           memcmp(code, system_call, sizeof(code)) == 0;
}

/* Whether the processor checks the alignment of accesses. Compilers do not mind a
 * misaligned one: two neighbours are often stored at once. */
#define ALIGNMENT_CHECK (1ull << 18)

void
safemmap__enter_handler(void)
{
    unsigned long long flags = __builtin_ia32_readeflags_u64();

    if ((flags & ALIGNMENT_CHECK) != 0)
        __builtin_ia32_writeeflags_u64(flags & ~ALIGNMENT_CHECK);
}

/* To set it costs more than to test whether it is the same. */
void
safemmap__restore_floating_point(const ucontext_t *context)
{
    const __typeof__(*context->uc_mcontext.fpregs) *state =
        context->uc_mcontext.fpregs;
    uint32_t mxcsr;
    uint16_t control_word;

    if (state == NULL)
        return;
    __asm__ volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(mxcsr), "=m"(control_word));
    if (mxcsr != state->mxcsr || control_word != state->cwd)
        __asm__ volatile("ldmxcsr %0\n\tfldcw %1"
                         :
                         : "m"(state->mxcsr), "m"(state->cwd));
}

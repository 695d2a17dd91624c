/* Runs only inside the signal: tells a signal that repeats a fault from one that was
 * sent.
 *
 * A handler above ours may hand a fault down with raise(3), once it has put us back.
 * Seen from here that is a signal which the process sent itself, without an address.
 * If we just return, the instruction faults again, and this time the kernel asks us.
 *
 * What the thread's last fault was, the kernel says with every signal; that this one
 * is its echo, where the handler which was told of it stands: either still on the
 * stack, waiting for its raise(3) to return, or it has returned, and the thread is
 * about to fault again.
 */
#include "internal.h"

#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* The kernel's idea of a siginfo for SI_TKILL and SI_USER: who sent it. */
bool
safemmap__sent_by_us(const siginfo_t *info)
{
    return (info->si_code == SI_TKILL || info->si_code == SI_USER) &&
           info->si_pid == getpid();
}

/* How many bytes of memory that need not be there are copied. */
static size_t
copy_from(uintptr_t source, void *target, size_t size)
{
    struct iovec local = {target, size}, remote = {(void *)source, size};
    ssize_t copied = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

    return copied < 0 ? 0 : (size_t)copied;
}

/* ---- The context of a fault -------------------------------------------- */

/* What is known of it. */
struct fault {
    uint64_t address;
    bool known; /* of which kind it was: */
    uint64_t error, trap;
};

/* Where the kernel keeps it in a context, in words from the first that is looked at.
 */
#if defined(__x86_64__)
enum { AT_ERROR = 0, AT_TRAP = REG_TRAPNO - REG_ERR, AT_ADDRESS = REG_CR2 - REG_ERR };
static const size_t first_word = offsetof(ucontext_t, uc_mcontext.gregs[REG_ERR]);
#elif defined(__aarch64__)
enum { AT_ADDRESS = 0 };
static const size_t first_word = offsetof(ucontext_t, uc_mcontext.fault_address);
#else
enum { AT_ADDRESS = 0 };
static const size_t first_word = 0;
#endif

static bool
tells_of(const struct fault *fault, const uint64_t *words)
{
    if (words[AT_ADDRESS] != fault->address)
        return false;
#if defined(__x86_64__)
    return !fault->known ||
           (words[AT_ERROR] == fault->error && words[AT_TRAP] == fault->trap);
#else
    return true;
#endif
}

/* So far the frames of a handler reach, in words; read in pieces, for which the stack
 * may be too small else. */
enum { FRAMES = 1024, PIECE = 64 };

/* The nearest context from `stack` on that tells of the fault, and is `wanted`. */
static ucontext_t *
on_stack(uintptr_t stack, const struct fault *fault,
         bool (*wanted)(const ucontext_t *context, uintptr_t address))
{
    uint64_t words[PIECE + AT_ADDRESS];

    stack = (stack + first_word) & ~(uintptr_t)7;
    for (size_t done = 0; done < FRAMES; done += PIECE) {
        uintptr_t from = stack + done * sizeof(words[0]);
        size_t count = copy_from(from, words, sizeof(words)) / sizeof(words[0]);

        for (size_t i = 0; i < PIECE && i + AT_ADDRESS < count; i++) {
            ucontext_t *context = (void *)(from + i * sizeof(words[0]) - first_word);

            if (tells_of(fault, words + i) && wanted(context, fault->address))
                return context;
        }
        if (count < PIECE + AT_ADDRESS)
            break;
    }
    return NULL;
}

ucontext_t *
safemmap__fixup_on_stack(uintptr_t address)
{
    const struct fault fault = {.address = address};

    return on_stack((uintptr_t)__builtin_frame_address(0), &fault,
                    safemmap__fixup_covers);
}

/* ---- Echoes ------------------------------------------------------------ */

static bool
anyone(const ucontext_t *context, uintptr_t address)
{
    (void)context;
    (void)address;
    return true;
}

bool
safemmap__echo(const siginfo_t *info, const ucontext_t *context)
{
    struct fault last = {.address = 0, .known = true};
    uintptr_t stack = 0, next = 0;

    if (context == NULL || !safemmap__sent_by_us(info))
        return false;
#if defined(__x86_64__)
    static const unsigned char system_call[] = {0x0f, 0x05}; /* syscall */
    const greg_t *registers = context->uc_mcontext.gregs;

    last.address = (uint64_t)registers[REG_CR2];
    last.error = (uint64_t)registers[REG_ERR];
    last.trap = (uint64_t)registers[REG_TRAPNO];
    stack = (uintptr_t)registers[REG_RSP];
    next = (uintptr_t)registers[REG_RIP];
#elif defined(__aarch64__)
    static const unsigned char system_call[] = {0x01, 0x00, 0x00, 0xd4}; /* svc #0 */

    last.address = context->uc_mcontext.fault_address;
    stack = (uintptr_t)context->uc_mcontext.sp;
    next = (uintptr_t)context->uc_mcontext.pc;
#else
    static const unsigned char system_call[1];
#endif
    unsigned char code[sizeof(system_call)];

    if (last.address == 0)
        return false;
    /* By the code that was interrupted, which stands behind the system call? */
    if (copy_from(next - sizeof(code), code, sizeof(code)) == sizeof(code) &&
        memcmp(code, system_call, sizeof(code)) == 0)
        context = on_stack(stack, &last, anyone);
    return context != NULL && (safemmap__fixup_covers(context, last.address) ||
                               safemmap__overlay_untold(last.address));
}

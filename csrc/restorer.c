/* Runs outside the signal, but for safemmap__sigaction_restorer(), which is what a
 * handler returns to: has the handler know when the kernel itself has called it.
 *
 * Then nobody has changed the signal mask, which takes a system call to set again. A
 * handler above can call ours so that everything looks as the kernel has it, its
 * return address included. But that leads to the restorer of the action by which the
 * kernel called: C libraries put their own into every action that passes through
 * their sigaction(3). Ours does not.
 */
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#if SAFEMMAP__ASSEMBLY

/* Debuggers and unwinders know a signal's frame by these very bytes (gdb where there
 * is "sigaction" in the name); and look for the function at the one before. */
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        "    nop\n"
        ".globl safemmap__sigaction_restorer\n"
        ".hidden safemmap__sigaction_restorer\n"
        ".type safemmap__sigaction_restorer, @function\n"
        "safemmap__sigaction_restorer:\n"
        "    movq $15, %rax\n" /* SYS_rt_sigreturn */
        "    syscall\n"
        ".size safemmap__sigaction_restorer, . - safemmap__sigaction_restorer\n"
        ".popsection\n");

_Static_assert(SYS_rt_sigreturn == 15, "the system call has another number");

/* What rt_sigaction(2) takes. */
struct kernel_action {
    void (*handler)(int, siginfo_t *, void *);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
};
#define SA_RESTORER_FLAG 0x04000000ul

int
safemmap__set_action(const struct sigaction *action, struct sigaction *ret_replaced)
{
    struct kernel_action new = {action->sa_sigaction,
                                (unsigned int)action->sa_flags | SA_RESTORER_FLAG,
                                safemmap__sigaction_restorer, 0};
    struct kernel_action old;

    memcpy(&new.mask, &action->sa_mask, sizeof(new.mask));
    if (syscall(SYS_rt_sigaction, SIGBUS, &new, &old, sizeof(new.mask)) != 0)
        return -errno;
    memset(ret_replaced, 0, sizeof(*ret_replaced));
    ret_replaced->sa_sigaction = old.handler;
    ret_replaced->sa_flags = (int)old.flags;
    ret_replaced->sa_restorer = old.restorer;
    memcpy(&ret_replaced->sa_mask, &old.mask, sizeof(old.mask));
    return 0;
}

#else

void
safemmap__sigaction_restorer(void)
{
    __builtin_trap();
}

int
safemmap__set_action(const struct sigaction *action, struct sigaction *ret_replaced)
{
    return sigaction(SIGBUS, action, ret_replaced) < 0 ? -errno : 0;
}

#endif

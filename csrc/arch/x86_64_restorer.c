/* Runs outside the signal, but for safemmap__sigaction_restorer(), which is what a
 * handler returns to: has the handler know when the kernel itself has called it.
 *
 * Then nobody has changed the signal mask, which takes a system call to set again. A
 * handler above can call ours so that everything looks as the kernel has it, its
 * return address included. But that leads to the restorer of the action by which the
 * kernel called: C libraries put their own into every action that passes through
 * their sigaction(3). Ours does not.
 */
#include "arch.h"

#include <sys/syscall.h>

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

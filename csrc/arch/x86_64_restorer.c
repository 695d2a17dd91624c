/* Runs outside the signal (safemmap__sigaction_restorer() is where a handler returns
 * to). Lets the handler recognize by its return address that the kernel has called
 * it.
 *
 * In that case nobody has changed the signal mask, and we save the system call that
 * sets it. A handler above can call ours so that everything else looks as if the
 * kernel had. But its return address is then the restorer of the action that the
 * kernel called: C libraries put their own restorer into every action that passes
 * through their sigaction(3). We set our action without that function, with a
 * restorer of our own.
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

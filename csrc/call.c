/* Runs outside the signal, but for safemmap__leave_call(): calls a function that the
 * handler can end.
 *
 * sigsetjmp(3) would do, and does on other machines. But it costs twice as much as
 * what is needed here, and a function that calls it must not rely on its own
 * variables afterwards; one that calls this may.
 */
/* The jump of glibc may go from a stack of the handler's own to any other; the
 * checked longjmp of glibc takes that for an error where it cannot tell. */
#undef _FORTIFY_SOURCE

#include "internal.h"

#if SAFEMMAP__ASSEMBLY

/* %rdi: the guard, whose first word is where the stack stood, %rsi: the function,
 * %rdx: its argument. What belongs to our caller is on the stack meanwhile. */
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        ".globl safemmap__call\n"
        ".hidden safemmap__call\n"
        ".type safemmap__call, @function\n"
        "safemmap__call:\n"
        ".cfi_startproc\n"
        "    pushq %rbp\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %rbp, 0\n"
        "    pushq %rbx\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %rbx, 0\n"
        "    pushq %r12\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %r12, 0\n"
        "    pushq %r13\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %r13, 0\n"
        "    pushq %r14\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %r14, 0\n"
        "    pushq %r15\n"
        ".cfi_adjust_cfa_offset 8\n"
        ".cfi_rel_offset %r15, 0\n"
        "    subq $8, %rsp\n"
        ".cfi_adjust_cfa_offset 8\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rdx, %rdi\n"
        "    call *%rsi\n"
        "1:  addq $8, %rsp\n"
        ".cfi_adjust_cfa_offset -8\n"
        "    popq %r15\n"
        ".cfi_adjust_cfa_offset -8\n"
        "    popq %r14\n"
        ".cfi_adjust_cfa_offset -8\n"
        "    popq %r13\n"
        ".cfi_adjust_cfa_offset -8\n"
        "    popq %r12\n"
        ".cfi_adjust_cfa_offset -8\n"
        "    popq %rbx\n"
        ".cfi_adjust_cfa_offset -8\n"
        "    popq %rbp\n"
        ".cfi_adjust_cfa_offset -8\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size safemmap__call, . - safemmap__call\n"

        ".globl safemmap__leave_call\n"
        ".hidden safemmap__leave_call\n"
        ".type safemmap__leave_call, @function\n"
        "safemmap__leave_call:\n"
        "    movq (%rdi), %rsp\n"
        "    xorl %eax, %eax\n"
        "    jmp 1b\n"
        ".size safemmap__leave_call, . - safemmap__leave_call\n"
        ".popsection\n");

_Static_assert(offsetof(struct safemmap__guard, place) == 0,
               "where the stack stood is not the first word of a guard");

#else

uintptr_t
safemmap__call(struct safemmap__guard *guard, safemmap__access *run,
               const void *arguments)
{
    return sigsetjmp(guard->place, 0) == 0 ? run(arguments) : 0;
}

_Noreturn void
safemmap__leave_call(struct safemmap__guard *guard)
{
    siglongjmp(guard->place, 1);
}

#endif

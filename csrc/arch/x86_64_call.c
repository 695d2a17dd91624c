/* Runs outside the signal (inside it: safemmap__leave_by_stack()). Calls a function
 * that the handler can end.
 *
 * setjmp(3) would do, and does elsewhere (generic_call.c). But it costs twice as
 * much as what is needed here, and a function that calls it must not rely on its own
 * variables afterwards; one that calls this may.
 */
#include "arch.h"
#include "../os/os.h"

/* %rdi: the place, a word that gets the stack pointer, %rsi: the function,
 * %rdx: its argument. What belongs to our caller is on the stack meanwhile. */
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        ".globl safemmap__call_by_stack\n"
        ".hidden safemmap__call_by_stack\n"
        ".type safemmap__call_by_stack, @function\n"
        "safemmap__call_by_stack:\n"
        ".cfi_startproc\n"
        "    " SAFEMMAP__LANDING "\n"
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
        ".size safemmap__call_by_stack, . - safemmap__call_by_stack\n"

        ".globl safemmap__leave_by_stack\n"
        ".hidden safemmap__leave_by_stack\n"
        ".type safemmap__leave_by_stack, @function\n"
        "safemmap__leave_by_stack:\n"
        "    " SAFEMMAP__LANDING "\n"
        "    movq (%rdi), %rsp\n"
        "    xorl %eax, %eax\n"
        "    jmp 1b\n"
        ".size safemmap__leave_by_stack, . - safemmap__leave_by_stack\n"
        ".popsection\n");

_Static_assert(offsetof(struct safemmap__place, stack) == 0,
               "where the stack stood is not the first word of a place");

bool safemmap__calls_end_by_jump;

SAFEMMAP__CONSTRUCTOR static void
ask_for_a_shadow_stack(void)
{
    safemmap__calls_end_by_jump = safemmap__os_has_shadow_stack();
}

/* Runs outside the signal (inside it: safemmap__leave_by_stack()). Calls a function
 * that the handler can end, as x86_64_call.c does.
 */
#include "arch.h"
#include "../os/os.h"

/* x0: the place, a word that gets the stack pointer, x1: the function, x2: its
 * argument. What belongs to our caller is on the stack meanwhile. (Unwinders know d8
 * to d15 as 72 to 79.) */
__asm__(".pushsection .text\n"
        ".p2align 4\n"
        ".globl safemmap__call_by_stack\n"
        ".hidden safemmap__call_by_stack\n"
        ".type safemmap__call_by_stack, %function\n"
        "safemmap__call_by_stack:\n"
        ".cfi_startproc\n"
        "    " SAFEMMAP__LANDING "\n"
        "    stp x29, x30, [sp, #-160]!\n"
        ".cfi_def_cfa_offset 160\n"
        ".cfi_offset x29, -160\n"
        ".cfi_offset x30, -152\n"
        "    mov x29, sp\n"
        "    stp x19, x20, [sp, #16]\n"
        ".cfi_offset x19, -144\n"
        ".cfi_offset x20, -136\n"
        "    stp x21, x22, [sp, #32]\n"
        ".cfi_offset x21, -128\n"
        ".cfi_offset x22, -120\n"
        "    stp x23, x24, [sp, #48]\n"
        ".cfi_offset x23, -112\n"
        ".cfi_offset x24, -104\n"
        "    stp x25, x26, [sp, #64]\n"
        ".cfi_offset x25, -96\n"
        ".cfi_offset x26, -88\n"
        "    stp x27, x28, [sp, #80]\n"
        ".cfi_offset x27, -80\n"
        ".cfi_offset x28, -72\n"
        "    stp d8, d9, [sp, #96]\n"
        ".cfi_offset 72, -64\n"
        ".cfi_offset 73, -56\n"
        "    stp d10, d11, [sp, #112]\n"
        ".cfi_offset 74, -48\n"
        ".cfi_offset 75, -40\n"
        "    stp d12, d13, [sp, #128]\n"
        ".cfi_offset 76, -32\n"
        ".cfi_offset 77, -24\n"
        "    stp d14, d15, [sp, #144]\n"
        ".cfi_offset 78, -16\n"
        ".cfi_offset 79, -8\n"
        "    str x29, [x0]\n"
        "    mov x0, x2\n"
        "    blr x1\n"
        "1:  ldp d14, d15, [sp, #144]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp x27, x28, [sp, #80]\n"
        "    ldp x25, x26, [sp, #64]\n"
        "    ldp x23, x24, [sp, #48]\n"
        "    ldp x21, x22, [sp, #32]\n"
        "    ldp x19, x20, [sp, #16]\n"
        "    ldp x29, x30, [sp], #160\n"
        ".cfi_def_cfa_offset 0\n"
        ".cfi_restore x29\n"
        ".cfi_restore x30\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size safemmap__call_by_stack, . - safemmap__call_by_stack\n"

        ".globl safemmap__leave_by_stack\n"
        ".hidden safemmap__leave_by_stack\n"
        ".type safemmap__leave_by_stack, %function\n"
        "safemmap__leave_by_stack:\n"
        "    " SAFEMMAP__LANDING "\n"
        "    ldr x1, [x0]\n"
        "    mov sp, x1\n"
        "    mov x0, #0\n"
        "    b 1b\n"
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

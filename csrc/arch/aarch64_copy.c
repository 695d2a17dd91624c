/* Runs outside the signal (inside it: safemmap__fixup_leave()). Copies that need no
 * guard, and a search for one byte, by the rules that x86_64_copy.c explains.
 */
#include "operands.h"
#include "../os/os.h"

/* x0: target, x1: source, x2: size, 1 to SAFEMMAP__FIXUP_SHORT, and in x3 and x4 what
 * safemmap__fixup_report() needs. Sizes are cut into classes; within one, what is
 * read from the start and what is read up to the end overlap. */
__asm__(
    ".pushsection .text\n"
    ".p2align 6\n"
    ".globl safemmap__fixup_copy\n"
    ".hidden safemmap__fixup_copy\n"
    ".type safemmap__fixup_copy, %function\n"
    "safemmap__fixup_copy:\n"
    ".cfi_startproc\n"
    "    " SAFEMMAP__LANDING "\n"
    "    add x7, x1, x2\n"
    "    add x8, x0, x2\n"
    "    cmp x2, #16\n"
    "    b.hs 16f\n"
    "    tbnz x2, #3, 8f\n"
    "    tbnz x2, #2, 4f\n"
    "    tbnz x2, #1, 2f\n"

    "    ldrb w9, [x1]\n"
    "    strb w9, [x0]\n"
    "    mov w0, #0\n"
    "    ret\n"

    "2:  ldrh w9, [x1]\n"
    "    ldurh w10, [x7, #-2]\n"
    "    strh w9, [x0]\n"
    "    sturh w10, [x8, #-2]\n"
    "    mov w0, #0\n"
    "    ret\n"

    "4:  ldr w9, [x1]\n"
    "    ldur w10, [x7, #-4]\n"
    "    str w9, [x0]\n"
    "    stur w10, [x8, #-4]\n"
    "    mov w0, #0\n"
    "    ret\n"

    "8:  ldr x9, [x1]\n"
    "    ldur x10, [x7, #-8]\n"
    "    str x9, [x0]\n"
    "    stur x10, [x8, #-8]\n"
    "    mov w0, #0\n"
    "    ret\n"

    "16: cmp x2, #32\n"
    "    b.hi 32f\n"
    "    ldr q0, [x1]\n"
    "    ldur q1, [x7, #-16]\n"
    "    str q0, [x0]\n"
    "    stur q1, [x8, #-16]\n"
    "    mov w0, #0\n"
    "    ret\n"

    "32: cmp x2, #64\n"
    "    b.hi 64f\n"
    "    ldp q0, q1, [x1]\n"
    "    ldp q2, q3, [x7, #-32]\n"
    "    stp q0, q1, [x0]\n"
    "    stp q2, q3, [x8, #-32]\n"
    "    mov w0, #0\n"
    "    ret\n"

    "64: cmp x2, #128\n"
    "    b.hi 128f\n"
    "    ldp q0, q1, [x1]\n"
    "    ldp q2, q3, [x1, #32]\n"
    "    ldp q4, q5, [x7, #-64]\n"
    "    ldp q6, q7, [x7, #-32]\n"
    "    stp q0, q1, [x0]\n"
    "    stp q2, q3, [x0, #32]\n"
    "    stp q4, q5, [x8, #-64]\n"
    "    stp q6, q7, [x8, #-32]\n"
    "    mov w0, #0\n"
    "    ret\n"

    "128:ldp q0, q1, [x1]\n"
    "    ldp q2, q3, [x1, #32]\n"
    "    ldp q4, q5, [x1, #64]\n"
    "    ldp q6, q7, [x1, #96]\n"
    "    ldp q16, q17, [x7, #-128]\n"
    "    ldp q18, q19, [x7, #-96]\n"
    "    ldp q20, q21, [x7, #-64]\n"
    "    ldp q22, q23, [x7, #-32]\n"
    "    stp q0, q1, [x0]\n"
    "    stp q2, q3, [x0, #32]\n"
    "    stp q4, q5, [x0, #64]\n"
    "    stp q6, q7, [x0, #96]\n"
    "    stp q16, q17, [x8, #-128]\n"
    "    stp q18, q19, [x8, #-96]\n"
    "    stp q20, q21, [x8, #-64]\n"
    "    stp q22, q23, [x8, #-32]\n"
    "    mov w0, #0\n"
    "    ret\n"
    ".cfi_endproc\n"
    ".size safemmap__fixup_copy, . - safemmap__fixup_copy\n"

    /* The same for more, forwards; the last 64 bytes are read first. */
    ".p2align 6\n"
    ".globl safemmap__fixup_copy_long\n"
    ".hidden safemmap__fixup_copy_long\n"
    ".type safemmap__fixup_copy_long, %function\n"
    "safemmap__fixup_copy_long:\n"
    ".cfi_startproc\n"
    "    " SAFEMMAP__LANDING "\n"
    "    add x7, x1, x2\n"
    "    add x8, x0, x2\n"
    "    ldp q4, q5, [x7, #-64]\n"
    "    ldp q6, q7, [x7, #-32]\n"
    "    mov x9, x1\n"
    "    mov x10, x0\n"
    "    sub x7, x7, #64\n"
    "1:  ldp q0, q1, [x9]\n"
    "    ldp q2, q3, [x9, #32]\n"
    "    add x9, x9, #64\n"
    "    stp q0, q1, [x10]\n"
    "    stp q2, q3, [x10, #32]\n"
    "    add x10, x10, #64\n"
    "    cmp x9, x7\n"
    "    b.lo 1b\n"
    "    stp q4, q5, [x8, #-64]\n"
    "    stp q6, q7, [x8, #-32]\n"
    "    mov w0, #0\n"
    "    ret\n"
    ".cfi_endproc\n"
    ".size safemmap__fixup_copy_long, . - safemmap__fixup_copy_long\n"

    /* The same for one byte. */
    ".p2align 4\n"
    ".globl safemmap__fixup_load\n"
    ".hidden safemmap__fixup_load\n"
    ".type safemmap__fixup_load, %function\n"
    "safemmap__fixup_load:\n"
    ".cfi_startproc\n"
    "    " SAFEMMAP__LANDING "\n"
    "    ldrb w9, [x1]\n"
    "    strb w9, [x0]\n"
    "    mov w0, #0\n"
    "    ret\n"
    ".cfi_endproc\n"
    ".size safemmap__fixup_load, . - safemmap__fixup_load\n"

    /* Searches for the byte at the target in aligned blocks of 16, so that what
     * follows on the next page is not touched. x5: where the index goes. x11 has
     * four bits for each byte of a block. */
    ".p2align 6\n"
    ".globl safemmap__fixup_find\n"
    ".hidden safemmap__fixup_find\n"
    ".type safemmap__fixup_find, %function\n"
    "safemmap__fixup_find:\n"
    ".cfi_startproc\n"
    "    " SAFEMMAP__LANDING "\n"
    "    ldrb w9, [x0]\n"
    "    dup v1.16b, w9\n"
    "    and x9, x1, #-16\n"
    "    add x10, x1, x2\n"
    "    lsl x12, x1, #2\n"
    "    ldr q0, [x9]\n"
    "    cmeq v0.16b, v0.16b, v1.16b\n"
    "    shrn v0.8b, v0.8h, #4\n"
    "    fmov x11, d0\n"
    "    lsr x11, x11, x12\n"
    "    lsl x11, x11, x12\n"
    "1:  cbnz x11, 2f\n"
    "    add x9, x9, #16\n"
    "    cmp x9, x10\n"
    "    b.hs 3f\n"
    "    ldr q0, [x9]\n"
    "    cmeq v0.16b, v0.16b, v1.16b\n"
    "    shrn v0.8b, v0.8h, #4\n"
    "    fmov x11, d0\n"
    "    b 1b\n"
    "2:  rbit x11, x11\n"
    "    clz x11, x11\n"
    "    add x9, x9, x11, lsr #2\n"
    "    cmp x9, x10\n"
    "    b.hs 3f\n"
    "    sub x9, x9, x1\n"
    "    str x9, [x5]\n"
    "    mov w0, #0\n"
    "    ret\n"
    "3:  mov x9, #-1\n"
    "    str x9, [x5]\n"
    "    mov w0, #0\n"
    "    ret\n"
    ".cfi_endproc\n"
    ".size safemmap__fixup_find, . - safemmap__fixup_find\n"
    ".globl safemmap__fixup_end\n"
    ".hidden safemmap__fixup_end\n"
    "safemmap__fixup_end:\n"

    /* x0: the registers at the fault, x1: its address, x2: its code, which joins
     * what was in x4, x3: where to go on (by x16, as for a call), x4: the vectors.
     * The stack is given back last: from then on all of these may be overwritten.
     */
    ".globl safemmap__fixup_return\n"
    ".hidden safemmap__fixup_return\n"
    ".type safemmap__fixup_return, %function\n"
    "safemmap__fixup_return:\n"
    "    " SAFEMMAP__LANDING "\n"
    "    mov x9, x0\n"
    "    mov x5, x1\n"
    "    mov x16, x3\n"
    "    ldr d8, [x4, #128]\n"
    "    ldr d9, [x4, #144]\n"
    "    ldr d10, [x4, #160]\n"
    "    ldr d11, [x4, #176]\n"
    "    ldr d12, [x4, #192]\n"
    "    ldr d13, [x4, #208]\n"
    "    ldr d14, [x4, #224]\n"
    "    ldr d15, [x4, #240]\n"
    "    ldr w4, [x9, #32]\n"
    "    orr x4, x4, x2, lsl #32\n"
    "    ldp x0, x1, [x9]\n"
    "    ldp x2, x3, [x9, #16]\n"
    "    ldp x19, x20, [x9, #152]\n"
    "    ldp x21, x22, [x9, #168]\n"
    "    ldp x23, x24, [x9, #184]\n"
    "    ldp x25, x26, [x9, #200]\n"
    "    ldp x27, x28, [x9, #216]\n"
    "    ldp x29, x30, [x9, #232]\n"
    "    ldr x9, [x9, #248]\n"
    "    mov sp, x9\n"
    "    br x16\n"
    ".size safemmap__fixup_return, . - safemmap__fixup_return\n"
    ".popsection\n");

_Static_assert(offsetof(mcontext_t, sp) - offsetof(mcontext_t, regs) == 248,
               "the registers lie elsewhere");

size_t safemmap__fixup_short = SAFEMMAP__FIXUP_SHORT;
size_t safemmap__fixup_long = SAFEMMAP__FIXUP_LONG;
size_t safemmap__fixup_near = SAFEMMAP__FIXUP_NEAR;
safemmap__fixup_reporter *safemmap__fixup_report;

/* As on x86-64. */
static bool
on_valgrind(void)
{
    const uint64_t request[6] = {0x1001};
    uint64_t depth;

    __asm__ volatile("mov x3, #0\n\t"
                     "mov x4, %1\n\t"
                     "ror x12, x12, #3\n\t"
                     "ror x12, x12, #13\n\t"
                     "ror x12, x12, #51\n\t"
                     "ror x12, x12, #61\n\t"
                     "orr x10, x10, x10\n\t"
                     "mov %0, x3"
                     : "=r"(depth)
                     : "r"(request)
                     : "cc", "memory", "x3", "x4");
    return depth > 0;
}

SAFEMMAP__CONSTRUCTOR static void
choose_size(void)
{
    /* The frames that a shadow stack has for the handler would stay. */
    if (on_valgrind() || safemmap__os_has_shadow_stack())
        safemmap__fixup_short = safemmap__fixup_long = safemmap__fixup_near = 0;
}

#pragma GCC visibility push(hidden)
extern const char safemmap__fixup_end[];
_Noreturn void safemmap__fixup_return(const void *registers, uintptr_t address,
                                      int code, safemmap__fixup_reporter *report,
                                      const void *vectors);
#pragma GCC visibility pop

bool
safemmap__fixup_covers(const ucontext_t *context, uintptr_t address)
{
    const uint64_t *registers = (const void *)context->uc_mcontext.regs;
    uintptr_t instruction = (uintptr_t)context->uc_mcontext.pc;

    return instruction >= (uintptr_t)safemmap__fixup_copy &&
           instruction < (uintptr_t)safemmap__fixup_end &&
           (on_pages_of(registers[0], registers[2], address) ||
            on_pages_of(registers[1], registers[2], address));
}

/* The vectors' is the first of the records, and they follow its magic, its size and
 * two registers of control. */
_Noreturn void
safemmap__fixup_leave(const ucontext_t *context, struct safemmap_fault fault)
{
    safemmap__fixup_return(context->uc_mcontext.regs, fault.address, fault.code,
                           safemmap__fixup_report,
                           (const char *)context->uc_mcontext.__reserved + 16);
}

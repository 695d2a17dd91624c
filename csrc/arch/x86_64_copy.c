/* Runs outside the signal (inside it: safemmap__fixup_leave()). Copies that need no
 * guard, and a search for one byte.
 *
 * The copy touches neither the stack, nor a register that belongs to its caller, nor
 * its own arguments. So at whichever of its instructions a fault comes, it can go on
 * as if safemmap__fixup_report had been called in its place, and nothing has to be
 * kept before for that: the handler finds what it needs in the context of the signal.
 * (The kernel copies from user memory in the same way; see "exception tables" in its
 * documentation.)
 *
 * Short ones read all before they write anything: the ranges may overlap, and nothing
 * is written where the source is gone.
 */
#include "operands.h"
#include "../os/os.h"

/* %rdi: target, %rsi: source, %rdx: size, 1 to SAFEMMAP__FIXUP_SHORT, and in %rcx and
 * %r8 what safemmap__fixup_report() needs. Sizes are cut into classes; within one,
 * what is read from the start and what is read up to the end overlap. */
__asm__(".pushsection .text\n"
        ".p2align 6\n"
        ".globl safemmap__fixup_copy\n"
        ".hidden safemmap__fixup_copy\n"
        ".type safemmap__fixup_copy, @function\n"
        "safemmap__fixup_copy:\n"
        ".cfi_startproc\n"
        "    " SAFEMMAP__LANDING "\n"
        "    cmpq $16, %rdx\n"
        "    jae 16f\n"
        "    cmpl $8, %edx\n"
        "    jae 8f\n"
        "    cmpl $4, %edx\n"
        "    jae 4f\n"
        "    cmpl $2, %edx\n"
        "    jae 2f\n"

        "    movzbl (%rsi), %eax\n"
        "    movb %al, (%rdi)\n"
        "    xorl %eax, %eax\n"
        "    ret\n"

        "2:  movzwl (%rsi), %eax\n"
        "    movzwl -2(%rsi,%rdx), %r9d\n"
        "    movw %ax, (%rdi)\n"
        "    movw %r9w, -2(%rdi,%rdx)\n"
        "    xorl %eax, %eax\n"
        "    ret\n"

        "4:  movl (%rsi), %eax\n"
        "    movl -4(%rsi,%rdx), %r9d\n"
        "    movl %eax, (%rdi)\n"
        "    movl %r9d, -4(%rdi,%rdx)\n"
        "    xorl %eax, %eax\n"
        "    ret\n"

        "8:  movq (%rsi), %rax\n"
        "    movq -8(%rsi,%rdx), %r9\n"
        "    movq %rax, (%rdi)\n"
        "    movq %r9, -8(%rdi,%rdx)\n"
        "    xorl %eax, %eax\n"
        "    ret\n"

        "16: cmpq $32, %rdx\n"
        "    ja 32f\n"
        "    movups (%rsi), %xmm0\n"
        "    movups -16(%rsi,%rdx), %xmm1\n"
        "    movups %xmm0, (%rdi)\n"
        "    movups %xmm1, -16(%rdi,%rdx)\n"
        "    xorl %eax, %eax\n"
        "    ret\n"

        "32: cmpq $64, %rdx\n"
        "    ja 64f\n"
        "    movups (%rsi), %xmm0\n"
        "    movups 16(%rsi), %xmm1\n"
        "    movups -32(%rsi,%rdx), %xmm2\n"
        "    movups -16(%rsi,%rdx), %xmm3\n"
        "    movups %xmm0, (%rdi)\n"
        "    movups %xmm1, 16(%rdi)\n"
        "    movups %xmm2, -32(%rdi,%rdx)\n"
        "    movups %xmm3, -16(%rdi,%rdx)\n"
        "    xorl %eax, %eax\n"
        "    ret\n"

        "64: cmpq $128, %rdx\n"
        "    ja 128f\n"
        "    movups (%rsi), %xmm0\n"
        "    movups 16(%rsi), %xmm1\n"
        "    movups 32(%rsi), %xmm2\n"
        "    movups 48(%rsi), %xmm3\n"
        "    movups -64(%rsi,%rdx), %xmm4\n"
        "    movups -48(%rsi,%rdx), %xmm5\n"
        "    movups -32(%rsi,%rdx), %xmm6\n"
        "    movups -16(%rsi,%rdx), %xmm7\n"
        "    movups %xmm0, (%rdi)\n"
        "    movups %xmm1, 16(%rdi)\n"
        "    movups %xmm2, 32(%rdi)\n"
        "    movups %xmm3, 48(%rdi)\n"
        "    movups %xmm4, -64(%rdi,%rdx)\n"
        "    movups %xmm5, -48(%rdi,%rdx)\n"
        "    movups %xmm6, -32(%rdi,%rdx)\n"
        "    movups %xmm7, -16(%rdi,%rdx)\n"
        "    xorl %eax, %eax\n"
        "    ret\n"

        "128:movups (%rsi), %xmm0\n"
        "    movups 16(%rsi), %xmm1\n"
        "    movups 32(%rsi), %xmm2\n"
        "    movups 48(%rsi), %xmm3\n"
        "    movups 64(%rsi), %xmm4\n"
        "    movups 80(%rsi), %xmm5\n"
        "    movups 96(%rsi), %xmm6\n"
        "    movups 112(%rsi), %xmm7\n"
        "    movups -128(%rsi,%rdx), %xmm8\n"
        "    movups -112(%rsi,%rdx), %xmm9\n"
        "    movups -96(%rsi,%rdx), %xmm10\n"
        "    movups -80(%rsi,%rdx), %xmm11\n"
        "    movups -64(%rsi,%rdx), %xmm12\n"
        "    movups -48(%rsi,%rdx), %xmm13\n"
        "    movups -32(%rsi,%rdx), %xmm14\n"
        "    movups -16(%rsi,%rdx), %xmm15\n"
        "    movups %xmm0, (%rdi)\n"
        "    movups %xmm1, 16(%rdi)\n"
        "    movups %xmm2, 32(%rdi)\n"
        "    movups %xmm3, 48(%rdi)\n"
        "    movups %xmm4, 64(%rdi)\n"
        "    movups %xmm5, 80(%rdi)\n"
        "    movups %xmm6, 96(%rdi)\n"
        "    movups %xmm7, 112(%rdi)\n"
        "    movups %xmm8, -128(%rdi,%rdx)\n"
        "    movups %xmm9, -112(%rdi,%rdx)\n"
        "    movups %xmm10, -96(%rdi,%rdx)\n"
        "    movups %xmm11, -80(%rdi,%rdx)\n"
        "    movups %xmm12, -64(%rdi,%rdx)\n"
        "    movups %xmm13, -48(%rdi,%rdx)\n"
        "    movups %xmm14, -32(%rdi,%rdx)\n"
        "    movups %xmm15, -16(%rdi,%rdx)\n"
        "    xorl %eax, %eax\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size safemmap__fixup_copy, . - safemmap__fixup_copy\n"

        /* The same for more, forwards; the last 64 bytes are read first. */
        ".p2align 6\n"
        ".globl safemmap__fixup_copy_long\n"
        ".hidden safemmap__fixup_copy_long\n"
        ".type safemmap__fixup_copy_long, @function\n"
        "safemmap__fixup_copy_long:\n"
        ".cfi_startproc\n"
        "    " SAFEMMAP__LANDING "\n"
        "    vmovups -64(%rsi,%rdx), %ymm2\n"
        "    vmovups -32(%rsi,%rdx), %ymm3\n"
        "    leaq -64(%rdx), %r9\n"
        "    xorl %eax, %eax\n"
        ".p2align 5\n"
        "1:  vmovups (%rsi,%rax), %ymm0\n"
        "    vmovups 32(%rsi,%rax), %ymm1\n"
        "    vmovups %ymm0, (%rdi,%rax)\n"
        "    vmovups %ymm1, 32(%rdi,%rax)\n"
        "    addq $64, %rax\n"
        "    cmpq %r9, %rax\n"
        "    jb 1b\n"
        "    vmovups %ymm2, -64(%rdi,%rdx)\n"
        "    vmovups %ymm3, -32(%rdi,%rdx)\n"
        "    vzeroupper\n"
        "    xorl %eax, %eax\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size safemmap__fixup_copy_long, . - safemmap__fixup_copy_long\n"

        /* The same for one byte. */
        ".p2align 4\n"
        ".globl safemmap__fixup_load\n"
        ".hidden safemmap__fixup_load\n"
        ".type safemmap__fixup_load, @function\n"
        "safemmap__fixup_load:\n"
        ".cfi_startproc\n"
        "    " SAFEMMAP__LANDING "\n"
        "    movzbl (%rsi), %eax\n"
        "    movb %al, (%rdi)\n"
        "    xorl %eax, %eax\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size safemmap__fixup_load, . - safemmap__fixup_load\n"

        /* Searches for the byte at the target in aligned blocks of 32, so that what
         * follows on the next page is not touched. %r9: where the index goes. */
        ".p2align 6\n"
        ".globl safemmap__fixup_find\n"
        ".hidden safemmap__fixup_find\n"
        ".type safemmap__fixup_find, @function\n"
        "safemmap__fixup_find:\n"
        ".cfi_startproc\n"
        "    " SAFEMMAP__LANDING "\n"
        "    movzbl (%rdi), %eax\n"
        "    vmovd %eax, %xmm1\n"
        "    vpbroadcastb %xmm1, %ymm1\n"
        "    movq %rsi, %r10\n"
        "    andq $-32, %r10\n"
        "    leaq (%rsi,%rdx), %r11\n"
        "    vpcmpeqb (%r10), %ymm1, %ymm0\n"
        "    vpmovmskb %ymm0, %eax\n"
        "    shrxl %esi, %eax, %eax\n"
        "    shlxl %esi, %eax, %eax\n"
        "1:  testl %eax, %eax\n"
        "    jnz 2f\n"
        "    addq $32, %r10\n"
        "    cmpq %r11, %r10\n"
        "    jae 3f\n"
        "    vpcmpeqb (%r10), %ymm1, %ymm0\n"
        "    vpmovmskb %ymm0, %eax\n"
        "    jmp 1b\n"
        "2:  bsfl %eax, %eax\n"
        "    addq %r10, %rax\n"
        "    cmpq %r11, %rax\n"
        "    jae 3f\n"
        "    subq %rsi, %rax\n"
        "    movq %rax, (%r9)\n"
        "    vzeroupper\n"
        "    xorl %eax, %eax\n"
        "    ret\n"
        "3:  movq $-1, (%r9)\n"
        "    vzeroupper\n"
        "    xorl %eax, %eax\n"
        "    ret\n"
        ".cfi_endproc\n"
        ".size safemmap__fixup_find, . - safemmap__fixup_find\n"
        ".globl safemmap__fixup_end\n"
        ".hidden safemmap__fixup_end\n"
        "safemmap__fixup_end:\n"

        /* %rdi: the registers at the fault, %rsi: its address, %rdx: its code, which
         * joins what is in %r8, %rcx: where to go on. The stack is given back last:
         * from then on the registers may be overwritten. (The numbers are those of
         * REG_R8 to REG_RSP in <sys/ucontext.h>, by 8.) */
        ".globl safemmap__fixup_return\n"
        ".hidden safemmap__fixup_return\n"
        ".type safemmap__fixup_return, @function\n"
        "safemmap__fixup_return:\n"
        "    " SAFEMMAP__LANDING "\n"
        "    movq %rdi, %rax\n"
        "    movq %rsi, %r9\n"
        "    movq %rcx, %r10\n"
        "    shlq $32, %rdx\n"
        "    movl 0(%rax), %r8d\n"
        "    orq %rdx, %r8\n"
        "    movq 32(%rax), %r12\n"
        "    movq 40(%rax), %r13\n"
        "    movq 48(%rax), %r14\n"
        "    movq 56(%rax), %r15\n"
        "    movq 64(%rax), %rdi\n"
        "    movq 72(%rax), %rsi\n"
        "    movq 80(%rax), %rbp\n"
        "    movq 88(%rax), %rbx\n"
        "    movq 96(%rax), %rdx\n"
        "    movq 112(%rax), %rcx\n"
        "    movq 120(%rax), %rsp\n"
        "    jmp *%r10\n"
        ".size safemmap__fixup_return, . - safemmap__fixup_return\n"
        ".popsection\n");

_Static_assert(REG_R8 == 0 && REG_R12 * 8 == 32 && REG_R15 * 8 == 56 &&
                   REG_RDI * 8 == 64 && REG_RSI * 8 == 72 && REG_RBP * 8 == 80 &&
                   REG_RBX * 8 == 88 && REG_RDX * 8 == 96 && REG_RCX * 8 == 112 &&
                   REG_RSP * 8 == 120,
               "the registers lie elsewhere");

size_t safemmap__fixup_short = SAFEMMAP__FIXUP_SHORT;
size_t safemmap__fixup_long = SAFEMMAP__FIXUP_SHORT;
size_t safemmap__fixup_near;
safemmap__fixup_reporter *safemmap__fixup_report;

/* valgrind keeps most registers of a context up to date only when it is told to with
 * --vex-iropt-register-updates. (These instructions do nothing elsewhere: they are
 * RUNNING_ON_VALGRIND in its valgrind.h.) */
static bool
on_valgrind(void)
{
    const uint64_t request[6] = {0x1001};
    uint64_t depth = 0;

    __asm__ volatile("rolq $3, %%rdi\n\t"
                     "rolq $13, %%rdi\n\t"
                     "rolq $61, %%rdi\n\t"
                     "rolq $51, %%rdi\n\t"
                     "xchgq %%rbx, %%rbx"
                     : "+d"(depth)
                     : "a"(request)
                     : "cc", "memory");
    return depth > 0;
}

SAFEMMAP__CONSTRUCTOR static void
choose_size(void)
{
    __builtin_cpu_init();
    /* The frames that a shadow stack has for the handler would stay. */
    if (on_valgrind() || safemmap__os_has_shadow_stack()) {
        safemmap__fixup_short = safemmap__fixup_long = 0;
        return;
    }
    if (__builtin_cpu_supports("avx"))
        safemmap__fixup_long = SAFEMMAP__FIXUP_LONG;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"))
        safemmap__fixup_near = SAFEMMAP__FIXUP_NEAR;
}

#pragma GCC visibility push(hidden)
extern const char safemmap__fixup_end[];
_Noreturn void safemmap__fixup_return(const greg_t *registers, uintptr_t address,
                                      int code, safemmap__fixup_reporter *report);
#pragma GCC visibility pop

bool
safemmap__fixup_covers(const ucontext_t *context, uintptr_t address)
{
    const greg_t *registers = context->uc_mcontext.gregs;
    uintptr_t instruction = (uintptr_t)registers[REG_RIP];

    return instruction >= (uintptr_t)safemmap__fixup_copy &&
           instruction < (uintptr_t)safemmap__fixup_end &&
           (on_pages_of((uintptr_t)registers[REG_RDI], (uintptr_t)registers[REG_RDX],
                        address) ||
            on_pages_of((uintptr_t)registers[REG_RSI], (uintptr_t)registers[REG_RDX],
                        address));
}

_Noreturn void
safemmap__fixup_leave(const ucontext_t *context, struct safemmap_fault fault)
{
    safemmap__fixup_return(context->uc_mcontext.gregs, fault.address, fault.code,
                           safemmap__fixup_report);
}

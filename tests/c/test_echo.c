/* A signal that this process sends itself after a fault is the echo of that fault
 * only if the fault's own frame lies on the stack: what merely looks like a part of
 * one is not taken for it. */
#include "harness.h"

#include <ucontext.h>

/* What the kernel said of the last fault. */
static ucontext_t last;

static void
keep_context(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    last = *(ucontext_t *)context;
    CHECK(mmap((void *)((uintptr_t)info->si_addr & ~(PAGE - 1)), PAGE,
               PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
               0) != MAP_FAILED);
}

/* A region whose page is gone, and a fault in it that a guard recovered. */
static struct file file;
static struct safemmap_region region;

static void
recover_in_a_region(void)
{
    file = file_gone();
    region = region_of(&file);
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
    check_recovers(&file);
    check_recovers(&file);
    check_recovers(&file);
}

/* Locals that hold the address of the fault. */
static void
raise_beside_addresses(const void *unused)
{
    volatile uintptr_t words[64];

    (void)unused;
    recover_in_a_region();
    for (size_t i = 0; i < COUNT_OF(words); i++)
        words[i] = (uintptr_t)file.map + 5;
    raise(SIGBUS);
    CHECK_EQ(words[0], (uintptr_t)file.map + 5);
}

/* Has the page that faulted gone once more, and the last fault be of it. */
static void
fault_before_us(void)
{
    struct sigaction action = {.sa_sigaction = keep_context, .sa_flags = SA_SIGINFO};

    CHECK_CALL(sigaction(SIGBUS, &action, NULL));
    file = file_gone();
    region = region_of(&file);
    CHECK_EQ(load(&file, 5), 0);
    CHECK(mmap(file.map, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
               file.fd, 0) != MAP_FAILED);
    CHECK(signal(SIGBUS, SIG_DFL) != SIG_ERR);
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_region_add(&region), 0);
}

#if defined(__x86_64__)
/* A copy of the fault's context, without the frame that it was in: profilers and
 * crash reporters keep one. */
static void
raise_beside_a_context(const void *unused)
{
    volatile ucontext_t copy;

    (void)unused;
    fault_before_us();
    memcpy((void *)&copy, &last, sizeof(copy));
    raise(SIGBUS);
    CHECK_EQ(copy.uc_flags, last.uc_flags);
}
#endif

static void
raise_beside_registers(const void *unused)
{
    volatile mcontext_t copy;

    (void)unused;
    fault_before_us();
    memcpy((void *)&copy, &last.uc_mcontext, sizeof(copy));
    raise(SIGBUS);
    CHECK_EQ(memcmp((void *)&copy, &last.uc_mcontext, sizeof(copy)), 0);
}

static void
what_looks_like_a_context(void)
{
    CHECK_EQ(end_in_child(raise_beside_addresses, NULL), SIGBUS);
    CHECK_EQ(end_in_child(raise_beside_registers, NULL), SIGBUS);
#if defined(__x86_64__)
    /* Elsewhere a whole copy looks as the context does. */
    CHECK_EQ(end_in_child(raise_beside_a_context, NULL), SIGBUS);
#endif
}

TEST_MAIN(TEST(what_looks_like_a_context))

/* A sandbox that refuses what the handler is looked after with: operations go on with
 * the handler that is installed, and through system calls where none is. */
#include "limits.h"

#include <stddef.h>

static struct file healthy, gone;

/* From here on the kernel refuses these two system calls (they may be the same) with
 * EPERM. */
static void
refuse(unsigned one, unsigned other)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, one, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, other, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    install_filter(code, COUNT_OF(code));
}

struct sandbox {
    unsigned one, other;
    bool installed;
};

static const struct sandbox sandboxes[] = {
    {SYS_rt_sigaction, SYS_rt_sigaction, true},
    {SYS_rt_sigprocmask, SYS_rt_sigprocmask, true},
    {SYS_rt_sigaction, SYS_rt_sigprocmask, true},
    {SYS_rt_sigaction, SYS_rt_sigaction, false},
    {SYS_rt_sigaction, SYS_rt_sigprocmask, false},
};

static const struct sandbox *
enter(const void *argument)
{
    const struct sandbox *sandbox = argument;

    if (sandbox->installed) {
        CHECK_EQ(safemmap_install(), 0);
        check_recovers(&gone);
    }
    refuse(sandbox->one, sandbox->other);
    return sandbox;
}

/* Without what a sanitizer does at the end, which the sandbox refuses. */
static _Noreturn void
leave(void)
{
    _exit(0);
}

static void
begin(void)
{
    if (THREAD_SANITIZER)
        skip("ThreadSanitizer needs these system calls itself");
    healthy = file_new(1);
    gone = file_gone();
}

static void
operate(const void *argument)
{
    enter(argument);
    /* One operation in 64 checks the handler. */
    for (size_t i = 0; i < 200; i++) {
        struct safemmap_fault fault;
        unsigned char byte, bytes[1000];

        CHECK_EQ(safemmap_load(healthy.map + i, &byte, &fault), 0);
        CHECK_EQ(byte, pattern(i));
        CHECK_EQ(safemmap_copy(bytes, healthy.map + i, sizeof(bytes), &fault), 0);
        CHECK_EQ(bytes[999], pattern(i + 999));
        check_recovers(&gone);
    }
    leave();
}

static void
operations_go_on(void)
{
    begin();
    for (size_t i = 0; i < COUNT_OF(sandboxes); i++) {
        note = NOTE("sandbox", (long)i);
        CHECK_EQ(end_in_child(operate, &sandboxes[i]), 0);
    }
}

static void
read_regions(const void *argument)
{
    const struct sandbox *sandbox = enter(argument);
    struct safemmap_region region = region_of(&gone);

    /* Without a handler nothing protects a region. */
    if (!sandbox->installed) {
        CHECK_EQ(safemmap_install(), -EPERM);
        leave();
    }
    CHECK_EQ(safemmap_install(), 0);
    for (int i = 0; i < 3; i++) {
        struct file other = file_gone();

        region = region_of(&other);
        CHECK_EQ(safemmap_region_add(&region), 0);
        CHECK_EQ(load(&other, 5), 0);
        CHECK(safemmap_region_poisoned(&region));
        safemmap_region_remove(&region);
        file_free(&other);
        check_recovers(&gone);
    }
    leave();
}

static void
regions_go_on(void)
{
    begin();
    for (size_t i = 0; i < COUNT_OF(sandboxes); i++) {
        note = NOTE("sandbox", (long)i);
        CHECK_EQ(end_in_child(read_regions, &sandboxes[i]), 0);
    }
}

/* A foreign fault ends as the kernel would end it. */
static void
fault(const void *argument)
{
    enter(argument);
    (void)load(&gone, 0);
}

static void
send_ourselves(const void *argument)
{
    enter(argument);
    raise(SIGBUS);
    await_death();
}

static void
foreign_signals_kill(void)
{
    begin();
    for (size_t i = 0; i < COUNT_OF(sandboxes); i++) {
        const struct sandbox *sandbox = &sandboxes[i];
        bool default_refused = sandbox->installed && sandbox->one == SYS_rt_sigaction;

        note = NOTE("sandbox", (long)i);
        CHECK_EQ(end_in_child(fault, sandbox), SIGBUS);
        CHECK_EQ(end_in_child(send_ourselves, sandbox),
                 default_refused ? SIGKILL : SIGBUS);
    }
}

/* ---- Calls that the program emulates ------------------------------------ */

/* From here on the kernel sends SIGSYS instead of making the call. */
static void
trap(unsigned call)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    install_filter(code, COUNT_OF(code));
}

static int emulated;

/* Every call is refused, but for the one that cannot be. */
static void
emulate(int signo, siginfo_t *info, void *context)
{
    long result = info->si_syscall == SYS_gettid ? getpid() : -EPERM;
    ucontext_t *registers = context;

    (void)signo;
    emulated++;
#if defined(__x86_64__)
    registers->uc_mcontext.gregs[REG_RAX] = result;
#elif defined(__aarch64__)
    registers->uc_mcontext.regs[0] = (unsigned long)result;
#else
    (void)registers, (void)result;
#endif
}

static const unsigned emulated_calls[] = {SYS_gettid, SYS_process_vm_readv,
                                          SYS_mmap,   SYS_mremap,
                                          SYS_fstat,  SYS_newfstatat};

static void
fault_under_emulation(const void *call)
{
    struct sigaction action = {.sa_sigaction = emulate, .sa_flags = SA_SIGINFO};

    struct file file[2];
    struct safemmap_region region[2];

    CHECK_CALL(sigaction(SIGSYS, &action, NULL));
    CHECK_EQ(safemmap_install(), 0);
    for (int i = 0; i < 2; i++) {
        file[i] = file_gone();
        region[i] = region_of(&file[i]);
        region[i].withdrawable = i == 1;
        CHECK_EQ(safemmap_region_add(&region[i]), 0);
    }
    trap(*(const unsigned *)call);
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(load(&file[i], 5), 0);
        CHECK(safemmap_region_poisoned(&region[i]));
    }
    check_recovers(&gone);
    leave();
}

static void
emulated_calls_go_on(void)
{
    begin();
#if !defined(__x86_64__) && !defined(__aarch64__)
    skip("the result of a call is not known here");
#endif
    for (size_t i = 0; i < COUNT_OF(emulated_calls); i++) {
        note = NOTE("call", (long)emulated_calls[i]);
        CHECK_EQ(end_in_child(fault_under_emulation, &emulated_calls[i]), 0);
    }
}

TEST_MAIN(TEST(operations_go_on), TEST(regions_go_on), TEST(foreign_signals_kill),
          TEST(emulated_calls_go_on))

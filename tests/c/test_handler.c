/* Faults that are ours: the signal mask, errno and the stack after them, with
 * our handler on top and with others above it. */
#include "harness.h"

#include <fenv.h>
#include <limits.h>
#include <sys/auxv.h>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

static struct sigaction above_us; /* what a later handler found: ours */
static volatile sig_atomic_t calls;
static struct file gone;

static sigset_t
mask_now(void)
{
    sigset_t mask;

    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    return mask;
}

static void
check_mask(const sigset_t *want)
{
    sigset_t now = mask_now();

    for (int signo = 1; signo < 65; signo++)
        if (sigismember(&now, signo) != sigismember(want, signo)) {
            note = NOTE("signal", signo);
            CHECK_EQ(sigismember(&now, signo), sigismember(want, signo));
        }
}

/* ThreadSanitizer calls a handler with an errno of its own, and so that is what a
 * jump brings back. */
static void
check_errno(int want)
{
    if (!THREAD_SANITIZER)
        CHECK_EQ(errno, want);
}

/* The kernel calls a handler with the floating-point environment of a new process. */
static void
set_rounding(int mode)
{
    CHECK_EQ(fesetround(mode), 0);
#if defined(__SSE__)
    _MM_SET_FLUSH_ZERO_MODE(mode == FE_UPWARD ? _MM_FLUSH_ZERO_ON
                                              : _MM_FLUSH_ZERO_OFF);
#endif
}

static void
check_rounding(int mode)
{
    CHECK_EQ(fegetround(), mode);
#if defined(__SSE__)
    CHECK_EQ(_MM_GET_FLUSH_ZERO_MODE() == _MM_FLUSH_ZERO_ON, mode == FE_UPWARD);
    CHECK_EQ(_MM_GET_ROUNDING_MODE() == _MM_ROUND_UP, mode == FE_UPWARD);
#endif
}

/* One of each kind of fault, a small copy and a guarded one, with masks empty and
 * not. */
static void
check_state_survives(void)
{
    struct file shared = file_gone();
    struct safemmap_region region = region_of(&shared);
    sigset_t mask, before = mask_now();
    struct safemmap_fault fault;
    unsigned char bytes[1000];

    for (int blocked = 0; blocked < 2; blocked++) {
        sigemptyset(&mask);
        if (blocked) {
            sigaddset(&mask, SIGUSR1);
            sigaddset(&mask, SIGRTMIN + 3);
        }
        CHECK_EQ(pthread_sigmask(SIG_SETMASK, &mask, NULL), 0);
        for (size_t size = 64; size <= sizeof(bytes); size += sizeof(bytes) - 64) {
            set_rounding(FE_UPWARD);
            errno = 4242;
            CHECK_EQ(safemmap_copy(bytes, gone.map + 9, size, &fault), -EFAULT);
            check_errno(4242);
            CHECK_EQ(fault.address, (uintptr_t)gone.map + 9);
            check_mask(&mask);
            check_rounding(FE_UPWARD);
            set_rounding(FE_TONEAREST);
        }
    }
    CHECK_EQ(safemmap_region_add(&region), 0);
    errno = 4242;
    CHECK_EQ(*(volatile unsigned char *)shared.map, 0);
    check_errno(4242);
    check_mask(&mask);
    CHECK(safemmap_region_poisoned(&region));
    safemmap_region_remove(&region);
    file_free(&shared);
    CHECK_EQ(pthread_sigmask(SIG_SETMASK, &before, NULL), 0);
}

static void
mask_and_errno(void)
{
    gone = file_gone();
    for (int i = 0; i < 200; i++)
        check_state_survives();
}

/* Every kind of fault in a thread that has the processor check the alignment of
 * accesses, which compiled code for what follows would not survive. */
static void
alignment_checked(void)
{
#if defined(__x86_64__) && !SANITIZED
    const unsigned long long check = 0x40000;
    static unsigned char bytes[1024] __attribute__((aligned(64)));
    struct file shared = file_gone();
    struct safemmap_region region = region_of(&shared);
    struct safemmap_fault fault;
    unsigned long long flags;

    gone = file_gone();
    for (size_t size = 1; size <= sizeof(bytes); size *= 2) {
        CHECK_EQ(safemmap_copy(bytes, bytes, size, &fault),
                 0); /* checks the handler */
        __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | check);
        CHECK_EQ(safemmap_copy(bytes, gone.map, size, &fault), -EFAULT);
        CHECK_EQ(fault.address, (uintptr_t)gone.map);
    }
    CHECK_EQ(safemmap_region_add(&region), 0);
    __builtin_ia32_writeeflags_u64(__builtin_ia32_readeflags_u64() | check);
    bytes[0] = *(volatile unsigned char *)shared.map;
    flags = __builtin_ia32_readeflags_u64();
    __builtin_ia32_writeeflags_u64(flags & ~check);
    CHECK_EQ(flags & check, check);
    CHECK_EQ(bytes[0], 0);
    CHECK(safemmap_region_poisoned(&region));
    safemmap_region_remove(&region);
#else
    skip("needs x86-64, and code of which nothing is misaligned");
#endif
}

static void *
operate_with_sigbus_blocked(void *unused)
{
    sigset_t sigbus, mask;
    struct file file = file_new(1);
    struct safemmap_fault fault;
    unsigned char byte;

    (void)unused;
    sigemptyset(&sigbus);
    sigaddset(&sigbus, SIGBUS);
    for (int round = 0; round < 3; round++) {
        CHECK_EQ(pthread_sigmask(SIG_BLOCK, &sigbus, NULL), 0);
        for (int i = 0; i < 100; i++) {
            check_recovers(&gone);
            CHECK_EQ(safemmap_load(file.map + 9, &byte, &fault), 0);
            CHECK_EQ(byte, pattern(9));
        }
        mask = mask_now();
        CHECK_EQ(sigismember(&mask, SIGBUS), 1);
        CHECK_EQ(pthread_sigmask(SIG_UNBLOCK, &sigbus, NULL), 0);
        /* What was noticed once is checked each time. */
        for (int i = 0; i < 256; i++)
            CHECK_EQ(safemmap_load(file.map + 9, &byte, &fault), 0);
        check_next();
        check_recovers(&gone);
        check_next();
    }
    return NULL;
}

/* They go through system calls. */
static void
sigbus_blocked(void)
{
    struct safemmap_counts counts;
    pthread_t thread;

    gone = file_gone();
    CHECK_EQ(pthread_create(&thread, NULL, operate_with_sigbus_blocked, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    safemmap_get_counts(&counts);
    CHECK_EQ(counts.recovered, 3);
}

/* ---- Handlers above ours ----------------------------------------------- */

static void
put_above(void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler,
                               .sa_flags = SA_SIGINFO | flags};
    unsigned char byte = 0;
    struct safemmap_fault fault;

    check_next();
    CHECK_EQ(safemmap_load(&byte, &byte, &fault), 0);
    sigfillset(&action.sa_mask);
    CHECK_CALL(sigaction(SIGBUS, &action, &above_us));
    CHECK(is_entry(&above_us));
}

static void
call_directly(int signo, siginfo_t *info, void *context)
{
    int saved_errno = errno;

    calls++;
    errno = EXDEV;
    above_us.sa_sigaction(signo, info, context);
    errno = saved_errno; /* unless we left by a jump */
}

static void
call_without_context(int signo, siginfo_t *info, void *context)
{
    (void)context;
    calls++;
    above_us.sa_sigaction(signo, info, NULL);
}

static void
called_by_a_handler_above(void)
{
    gone = file_gone();
    for (int i = 0; i < 20; i++) {
        put_above(call_directly, 0);
        calls = 0;
        check_state_survives();
        CHECK_EQ(calls, 5);
        put_above(call_directly, SA_NODEFER | SA_ONSTACK);
        check_state_survives();
        CHECK_EQ(calls, 10);
        CHECK_CALL(sigaction(SIGBUS, &above_us, NULL));
    }
}

/* From where we stand that looks as if the kernel had called us: an optimizing
 * compiler makes a jump of it. */
static void
call_at_the_end(int signo, siginfo_t *info, void *context)
{
    calls++;
    above_us.sa_sigaction(signo, info, context);
}

static void
called_at_the_end_of_a_handler_above(void)
{
    gone = file_gone();
    for (int i = 0; i < 20; i++) {
        put_above(call_at_the_end, i % 2 ? SA_NODEFER : 0);
        calls = 0;
        check_state_survives();
        CHECK_EQ(calls, 5);
        CHECK_CALL(sigaction(SIGBUS, &above_us, NULL));
    }
}

static void
never_chains(int signo, siginfo_t *info, void *context)
{
    (void)signo;
    (void)info;
    (void)context;
    _exit(3);
}

/* The last handler check is a while ago: 64 small operations have us go on top again,
 * or one in bulk. */
static void
checks_again(void)
{
    static unsigned char bulk[2][SAFEMMAP_BULK];
    struct safemmap_fault fault;
    unsigned char byte;

    gone = file_gone();
    for (int i = 0; i < 20; i++) {
        put_above(never_chains, 0);
        usleep(200);
        for (int j = 0; j < 64; j++)
            CHECK_EQ(safemmap_load(bulk[0], &byte, &fault), 0);
        check_recovers(&gone);
        put_above(never_chains, 0);
        usleep(200);
        CHECK_EQ(safemmap_copy(bulk[0], bulk[1], SAFEMMAP_BULK, &fault), 0);
        check_recovers(&gone);
    }
}

/* A program has read our action, changed it, and set it again. */
static void
action_changed(void)
{
    static const int dropped[] = {SA_NODEFER, SA_ONSTACK, SA_SIGINFO};
    sigset_t before = mask_now();
    struct sigaction ours, now;

    gone = file_gone();
    for (int i = 0; i < 21; i++) {
        check_next();
        check_recovers(&gone);
        CHECK_CALL(sigaction(SIGBUS, NULL, &ours));
        CHECK(is_entry(&ours));
        now = ours;
        sigaddset(&now.sa_mask, SIGINT);
        now.sa_flags &= ~dropped[i % 3];
        CHECK_CALL(sigaction(SIGBUS, &now, NULL));
        check_next();
        check_recovers(&gone);
        check_mask(&before);
        CHECK_CALL(sigaction(SIGBUS, NULL, &now));
        CHECK_EQ(now.sa_sigaction == ours.sa_sigaction, true);
        CHECK_EQ(now.sa_flags, ours.sa_flags);
        CHECK_EQ(sigismember(&now.sa_mask, SIGINT), 0);
    }
}

/* `byte` wherever the kernel's next frame does not write. */
UNSEEN static void
fill_stack(unsigned char byte)
{
    volatile unsigned char stack[32 * 1024];

    for (size_t i = 0; i < sizeof(stack); i++)
        stack[i] = byte;
}

/* The kernel then calls the handler without a siginfo: a fault before the next
 * handler check. */
static void
called_without_siginfo(void)
{
    static const unsigned char bytes[] = {0, 1, 0xff};
    static const size_t sizes[] = {0, 9, 1000}; /* 0: in a region */
    struct safemmap_fault fault;
    sigset_t before = mask_now();
    unsigned char target[1000];
    struct sigaction now;

    gone = file_gone();
    for (size_t i = 0; i < COUNT_OF(bytes) * COUNT_OF(sizes); i++) {
        const size_t size = sizes[i / COUNT_OF(bytes)];
        struct file shared = file_gone();
        struct safemmap_region region = region_of(&shared);

        note = NOTE("size and byte", (long)size, bytes[i % COUNT_OF(bytes)]);
        CHECK_EQ(safemmap_region_add(&region), 0);
        check_next();
        CHECK_EQ(safemmap_load(target, target, &fault), 0);
        put_back_by_signal();
        fill_stack(bytes[i % COUNT_OF(bytes)]);
        if (size == 0) {
            CHECK_EQ(load(&shared, 0), 0);
            CHECK(safemmap_region_poisoned(&region));
        } else {
            CHECK_EQ(safemmap_copy(target, gone.map + 9, size, &fault), -EFAULT);
            CHECK_EQ(fault.address, (uintptr_t)gone.map + 9);
        }
        check_mask(&before);
        CHECK_CALL(sigaction(SIGBUS, NULL, &now));
        CHECK(is_entry(&now));
        CHECK((now.sa_flags & SA_SIGINFO) != 0);
        safemmap_region_remove(&region);
        file_free(&shared);
    }
}

enum { THREADS = 4 };
static pthread_barrier_t together;

static void *
fault_together(void *rounds)
{
    struct safemmap_fault fault;
    unsigned char target[1000];

    for (size_t i = 0; i < *(const size_t *)rounds; i++) {
        pthread_barrier_wait(&together); /* the main thread puts the action back */
        pthread_barrier_wait(&together);
        fill_stack(1);
        CHECK_EQ(
            safemmap_copy(target, gone.map + 9, i % 2 ? 9 : sizeof(target), &fault),
            -EFAULT);
        CHECK_EQ(fault.address, (uintptr_t)gone.map + 9);
        pthread_barrier_wait(&together);
    }
    return NULL;
}

/* One thread sets the action right while others have been called by the former one.
 */
static void
called_without_siginfo_together(void)
{
    const size_t rounds = SCALED(3000);
    pthread_t threads[THREADS];

    gone = file_gone();
    CHECK_EQ(pthread_barrier_init(&together, NULL, THREADS + 1), 0);
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&threads[i], NULL, fault_together, (void *)&rounds),
                 0);
    for (size_t i = 0; i < rounds; i++) {
        CHECK_EQ(safemmap_install(), 0);
        pthread_barrier_wait(&together);
        put_back_by_signal();
        pthread_barrier_wait(&together);
        pthread_barrier_wait(&together);
    }
    for (size_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

/* Not what it was given, but some do: the mask cannot be restored then, save for
 * SIGBUS. */
static void
called_without_a_context(void)
{
    gone = file_gone();
    for (int i = 0; i < 20; i++) {
        put_above(call_without_context, 0);
        calls = 0;
        check_recovers(&gone);
        check_recovers(&gone);
        CHECK(calls >= 2);
        CHECK_CALL(sigaction(SIGBUS, &above_us, NULL));
    }
}

/* As faulthandler does: what was there before is put back and told by raise. */
static void
restore_and_raise(int signo, siginfo_t *info, void *context)
{
    (void)info;
    (void)context;
    calls++;
    errno = EXDEV;
    sigaction(SIGBUS, &above_us, NULL);
    raise(signo);
}

static void
passed_on_with_raise(void)
{
    static const int flags[] = {0, SA_NODEFER, SA_ONSTACK};
    sigset_t before = mask_now();

    gone = file_gone();
    for (int i = 0; i < 300; i++) {
        put_above(restore_and_raise, flags[i % 3]);
        calls = 0;
        check_recovers(&gone);
        CHECK_EQ(calls, 1);
        check_mask(&before);
        check_recovers(&gone);
        CHECK_EQ(calls, 1);
    }
}

/* ---- A signal while a guard is armed ----------------------------------- */

static _Atomic int arrived, arrived_under_guard;
static volatile int busy;

static void
note_arrival(int signo)
{
    (void)signo;
    arrived_under_guard += safemmap__self.guard != NULL;
    arrived++;
}

static void *
busy_thread(void *rounds)
{
    for (size_t i = 0; i < *(const size_t *)rounds; i++) {
        __atomic_store_n(&busy, 1, __ATOMIC_SEQ_CST);
        long_operation();
        while (__atomic_load_n(&busy, __ATOMIC_SEQ_CST) != 0)
            usleep(100);
    }
    return NULL;
}

static void
signal_in_operation(size_t rounds, void (*send)(pthread_t))
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, busy_thread, &rounds), 0);
    for (size_t i = 0; i < rounds; i++) {
        while (__atomic_load_n(&busy, __ATOMIC_SEQ_CST) == 0)
            usleep(100);
        usleep(2000);
        send(thread);
        for (int j = 0; j < 5000 && arrived <= (int)i; j++)
            usleep(1000);
        CHECK_EQ(arrived, i + 1);
        CHECK_EQ(arrived_under_guard, 0);
        __atomic_store_n(&busy, 0, __ATOMIC_SEQ_CST);
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

static void
send_to_thread(pthread_t thread)
{
    CHECK_EQ(pthread_kill(thread, SIGBUS), 0);
}

static void
raise_reaches_handler_after_operation(void)
{
    CHECK(signal(SIGBUS, note_arrival) != SIG_ERR);
    CHECK_EQ(safemmap_install(), 0);
    signal_in_operation(10, send_to_thread);
}

static void
raise_in_operation(const void *unused)
{
    (void)unused;
    CHECK_EQ(safemmap_install(), 0);
    signal_in_operation(1, send_to_thread);
}

static void
raise_kills_after_operation(void)
{
    for (int i = 0; i < 5; i++)
        CHECK_EQ(end_in_child(raise_in_operation, NULL), SIGBUS);
}

/* ---- Stacks ------------------------------------------------------------ */

#define ALTERNATE_SIZE ((size_t)64 * 1024)

static void *
fault_on_alternate_stack(void *unused)
{
    stack_t stack = {.ss_sp = malloc(ALTERNATE_SIZE), .ss_size = ALTERNATE_SIZE};

    (void)unused;
    CHECK(stack.ss_sp != NULL);
    CHECK_CALL(sigaltstack(&stack, NULL));
    for (int i = 0; i < 50; i++) {
        stack_t now;

        check_state_survives();
        /* It would overflow in the end if a jump left it in use. */
        CHECK_CALL(sigaltstack(NULL, &now));
        CHECK_EQ(now.ss_flags, 0);
    }
    stack.ss_flags = SS_DISABLE;
    CHECK_CALL(sigaltstack(&stack, NULL));
    free(stack.ss_sp);
    return NULL;
}

static void *
fault_on_own_stack(void *unused)
{
    stack_t now;

    (void)unused;
    CHECK_CALL(sigaltstack(NULL, &now));
    CHECK_EQ(now.ss_flags, SS_DISABLE);
    for (int i = 0; i < 50; i++)
        check_state_survives();
    return NULL;
}

/* 0: the default. */
static void
run_in_thread(void *(*run)(void *), size_t stack_size)
{
    pthread_attr_t attributes;
    pthread_t thread;

    CHECK_EQ(pthread_attr_init(&attributes), 0);
    if (stack_size != 0)
        CHECK_EQ(pthread_attr_setstacksize(&attributes, stack_size), 0);
    CHECK_EQ(pthread_create(&thread, &attributes, run, NULL), 0);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(pthread_attr_destroy(&attributes), 0);
}

static void
stacks(void)
{
    size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN);

    /* musl's has no room for the context of a signal. */
    if (least < 16384)
        least = 16384 + getauxval(AT_MINSIGSTKSZ);
    gone = file_gone();
    run_in_thread(fault_on_alternate_stack, 0);
    run_in_thread(fault_on_own_stack, 0);
    if (!SANITIZED) {
        run_in_thread(fault_on_own_stack, least);
        run_in_thread(fault_on_alternate_stack, least);
    }
    /* A sanitizer's frames are larger. */
    run_in_thread(fault_on_own_stack, least + 128 * 1024);
}

TEST_MAIN(TEST(mask_and_errno), TEST(sigbus_blocked), TEST(called_by_a_handler_above),
          TEST(called_at_the_end_of_a_handler_above), TEST(checks_again),
          TEST(action_changed), TEST(alignment_checked), TEST(called_without_siginfo),
          TEST(called_without_siginfo_together), TEST(called_without_a_context),
          TEST(passed_on_with_raise), TEST(raise_reaches_handler_after_operation),
          TEST(raise_kills_after_operation), TEST(stacks))

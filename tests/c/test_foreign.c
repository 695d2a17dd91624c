/* Signals that are not ours: they end where they would have without us, be it
 * the default action or the handler that was there before. */
#include "harness.h"

#include <setjmp.h>

/* ---- Sources ----------------------------------------------------------- */

static struct file gone;
static volatile sig_atomic_t calls;

static void
by_fault(void)
{
    (void)*(volatile unsigned char *)(gone.map + 321);
}

static void
by_kill(void)
{
    CHECK_CALL(kill(getpid(), SIGBUS));
}

static void
by_raise(void)
{
    CHECK_EQ(raise(SIGBUS), 0);
}

static void
by_sigqueue(void)
{
    CHECK_CALL(sigqueue(getpid(), SIGBUS, (union sigval){.sival_int = 4711}));
}

static void
by_tgkill(void)
{
    CHECK_CALL(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGBUS));
}

struct source {
    const char *name;
    void (*send)(void);
    int code;
};

static const struct source sources[] = {
    {"fault", by_fault, BUS_ADRERR}, {"kill", by_kill, SI_USER},
    {"raise", by_raise, SI_TKILL},   {"sigqueue", by_sigqueue, SI_QUEUE},
    {"tgkill", by_tgkill, SI_TKILL},
};

#define EACH_SOURCE(source)                                                        \
    (const struct source *source = sources;                                        \
     source < sources + COUNT_OF(sources) && (note = NOTE(source->name, 0), true); \
     source++)

static void
await_call(sig_atomic_t count)
{
    for (int i = 0; i < 5000 && calls < count; i++)
        usleep(1000);
    CHECK_EQ(calls, count);
}

/* ---- The default action before us -------------------------------------- */

static void
die(const void *source)
{
    CHECK_EQ(safemmap_install(), 0);
    check_recovers(&gone);
    ((const struct source *)source)->send();
    await_death();
}

static void
default_kills(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
    CHECK_EQ(end_in_child(die, source), SIGBUS);
}

static void
die_after_recovering(const void *source)
{
    for (int i = 0; i < 1000; i++)
        check_recovers(&gone);
    die(source);
}

static void
default_kills_after_recovered_faults(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
    CHECK_EQ(end_in_child(die_after_recovering, source), SIGBUS);
}

static volatile int armed;

static void *
stay_armed(void *unused)
{
    for (;;) {
        __atomic_store_n(&armed, 1, __ATOMIC_SEQ_CST);
        long_operation();
    }
    return unused;
}

static void
die_beside_a_guard(const void *source)
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, stay_armed, NULL), 0);
    while (__atomic_load_n(&armed, __ATOMIC_SEQ_CST) == 0)
        usleep(100);
    usleep(2000);
    die(source);
}

static void
default_kills_beside_a_guard(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
    CHECK_EQ(end_in_child(die_beside_a_guard, source), SIGBUS);
}

/* ---- A handler before us ----------------------------------------------- */

static struct {
    siginfo_t info;
    sigset_t mask;
    void *context;
} seen;
static bool repairs;

static void
handler(int signo, siginfo_t *info, void *context)
{
    calls++;
    CHECK_EQ(signo, SIGBUS);
    if (info != NULL)
        seen.info = *info;
    seen.context = context;
    pthread_sigmask(SIG_BLOCK, NULL, &seen.mask);
    if (repairs)
        CHECK(mmap(gone.map, PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
    errno = 99;
}

static void
plain_handler(int signo)
{
    handler(signo, NULL, NULL);
}

static void
install_before_us(int flags)
{
    struct sigaction action = {.sa_flags = flags};

    if ((flags & SA_SIGINFO) != 0)
        action.sa_sigaction = handler;
    else
        action.sa_handler = plain_handler;
    sigaddset(&action.sa_mask, SIGUSR2);
    CHECK_CALL(sigaction(SIGBUS, &action, NULL));
    CHECK_EQ(safemmap_install(), 0);
    check_recovers(&gone);
}

static void
check_handled(const struct source *source, int flags)
{
    sig_atomic_t before = calls;
    sigset_t mask;

    repairs = source->send == by_fault;
    source->send();
    await_call(before + 1);
    if ((flags & SA_SIGINFO) != 0) {
        CHECK_EQ(seen.info.si_signo, SIGBUS);
        CHECK_EQ(seen.info.si_code, source->code);
        CHECK(seen.context != NULL);
        if (source->send == by_fault)
            CHECK_EQ((uintptr_t)seen.info.si_addr, (uintptr_t)gone.map + 321);
        else
            CHECK_EQ(seen.info.si_pid, getpid());
        if (source->send == by_sigqueue)
            CHECK_EQ(seen.info.si_value.sival_int, 4711);
    }
    CHECK_EQ(sigismember(&seen.mask, SIGUSR2), 1);
    /* ThreadSanitizer blocks everything. */
    if (!THREAD_SANITIZER) {
        CHECK_EQ(sigismember(&seen.mask, SIGUSR1), 0);
        CHECK_EQ(sigismember(&seen.mask, SIGBUS), (flags & SA_NODEFER) == 0);
    }
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, NULL, &mask), 0);
    CHECK_EQ(sigismember(&mask, SIGUSR2), 0);
    CHECK_EQ(sigismember(&mask, SIGBUS), 0);
}

static void
handle(const void *argument)
{
    static const int more[] = {0, SA_NODEFER, SA_ONSTACK | SA_RESTART};
    int kind = *(const int *)argument;
    struct file own = file_gone();

    for
        EACH_SOURCE(source)
    for (size_t i = 0; i < COUNT_OF(more); i++) {
        int flags = kind | more[i];

        note.at[0] = flags;
        /* Each source in a process of its own would be cleaner and slower:
         * what was there before is put back instead. */
        gone = file_gone();
        install_before_us(flags);
        check_handled(source, flags);
        check_recovers(&own);
        if (source->send != by_fault)
            check_handled(source, flags);
        file_free(&gone);
    }
}

static void
handler_is_called(void)
{
    static const int kinds[] = {0, SA_SIGINFO};

    for (size_t i = 0; i < COUNT_OF(kinds); i++)
        CHECK_EQ(end_in_child(handle, &kinds[i]), 0);
}

/* One call, and then the default. */
static void
handle_once(const void *argument)
{
    const struct source *source = argument;

    install_before_us(SA_SIGINFO | (int)SA_RESETHAND);
    check_handled(source, SA_SIGINFO);
    *skip_reason = '1';
    gone = file_gone();
    source->send();
    await_death();
}

static void
resethand_is_called_once(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
        {
            CHECK_EQ(end_in_child(handle_once, source), SIGBUS);
            CHECK_EQ(*skip_reason, '1');
            *skip_reason = '\0';
        }
}

/* As an installation on another thread does that has copied the chain before the
 * signal came, and publishes it after that. */
static void
handle_once_by_two_chains(const void *argument)
{
    const struct source *source = argument;
    static struct safemmap__chain copy;

    install_before_us(SA_SIGINFO | (int)SA_RESETHAND);
    copy = *safemmap__chain;
    check_handled(source, SA_SIGINFO);
    *skip_reason = '1';
    __atomic_store_n(&safemmap__chain, &copy, __ATOMIC_SEQ_CST);
    gone = file_gone();
    source->send();
    await_death();
}

static void
resethand_is_called_once_by_two_chains(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
        {
            CHECK_EQ(end_in_child(handle_once_by_two_chains, source), SIGBUS);
            CHECK_EQ(*skip_reason, '1');
            *skip_reason = '\0';
        }
}

/* ---- The stack of a handler before us ----------------------------------- */

/* Less than the handler needs. */
#define ALTERNATE_SIZE ((size_t)32 * 1024)
#define HANDLER_SIZE ((size_t)64 * 1024)

static unsigned char *alternate;
static bool on_alternate;

static bool
is_on_alternate(const void *address)
{
    return (uintptr_t)address - (uintptr_t)alternate < ALTERNATE_SIZE;
}

static __attribute__((noinline)) void
use_room(void)
{
    volatile unsigned char room[HANDLER_SIZE];

    for (size_t i = 0; i < sizeof(room); i += 1024)
        room[i] = 1;
}

static void
handler_that_needs_room(int signo, siginfo_t *info, void *context)
{
    on_alternate = is_on_alternate(__builtin_frame_address(0));
    if (!on_alternate)
        use_room();
    handler(signo, info, context);
}

static void
use_alternate_stack(void)
{
    stack_t stack = {.ss_size = ALTERNATE_SIZE};
    unsigned char *memory = mmap(NULL, PAGE + ALTERNATE_SIZE, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(memory != MAP_FAILED);
    CHECK_CALL(mprotect(memory, PAGE, PROT_NONE));
    stack.ss_sp = alternate = memory + PAGE;
    CHECK_CALL(sigaltstack(&stack, NULL));
}

/* As the kernel would run it: where its own flags say, and not where ours would. */
static void
run_on_its_stack(const void *argument)
{
    const int flags = *(const int *)argument;
    struct sigaction action = {.sa_sigaction = handler_that_needs_room,
                               .sa_flags = SA_SIGINFO | flags};
    struct file own = file_gone();

    use_alternate_stack();
    for (int above = 0; above < 2; above++) {
        if (above)
            check_recovers(&own);
        CHECK_CALL(sigaction(SIGBUS, &action, NULL));
        CHECK_EQ(safemmap_install(), 0);
        for
            EACH_SOURCE(source)
            {
                sig_atomic_t before = calls;

                gone = file_gone();
                repairs = source->send == by_fault;
                source->send();
                await_call(before + 1);
                CHECK_EQ(on_alternate, (flags & SA_ONSTACK) != 0);
                check_recovers(&own);
                file_free(&gone);
            }
    }
}

static void
previous_handler_runs_on_its_own_stack(void)
{
    static const int flags[] = {0, SA_ONSTACK};

    if (SANITIZED)
        skip("a sanitizer's frames are larger");
    for (size_t i = 0; i < COUNT_OF(flags); i++)
        CHECK_EQ(end_in_child(run_on_its_stack, &flags[i]), 0);
}

/* ---- Ignored before us ------------------------------------------------- */

static void
ignore(const void *argument)
{
    const struct source *source = argument;

    CHECK(signal(SIGBUS, SIG_IGN) != SIG_ERR);
    CHECK_EQ(safemmap_install(), 0);
    for (int i = 0; i < 3; i++) {
        source->send();
        usleep(2000);
        check_recovers(&gone);
    }
}

static void
ignored(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
    CHECK_EQ(end_in_child(ignore, source), source->send == by_fault ? SIGBUS : 0);
}

static int pipe_ends[2];
static volatile bool reading;

/* From here on it is in no function of ThreadSanitizer's, which takes each SIGBUS for
 * a fault and does not hold it back while it has locks of its own. */
UNSEEN static ssize_t
read_byte(char *ret_byte)
{
    reading = true;
    return (ssize_t)syscall(SYS_read, pipe_ends[0], ret_byte, (size_t)1);
}

UNSEEN static bool
is_reading(void)
{
    return reading;
}

/* Signals the thread that reads, and no other, until something can be read. */
static void *
signal_reader(void *reader)
{
    sigset_t sigbus;

    sigemptyset(&sigbus);
    sigaddset(&sigbus, SIGBUS);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &sigbus, NULL), 0);
    while (!is_reading())
        usleep(100);
    for (int i = 0; i < 20; i++) {
        usleep(5000);
        CHECK_EQ(pthread_kill(*(pthread_t *)reader, SIGBUS), 0);
        CHECK_CALL(kill(getpid(), SIGBUS));
    }
    CHECK_EQ(write(pipe_ends[1], "x", 1), 1);
    return NULL;
}

/* The kernel does not even wake a thread for a signal that is ignored. */
static void
ignored_signals_do_not_interrupt(void)
{
    struct sigaction action = {.sa_handler = SIG_IGN};
    pthread_t self = pthread_self(), thread;
    char byte;

    CHECK_CALL(sigaction(SIGBUS, &action, NULL));
    CHECK_EQ(safemmap_install(), 0);
    CHECK_CALL(pipe(pipe_ends));
    CHECK_EQ(pthread_create(&thread, NULL, signal_reader, &self), 0);
    CHECK_EQ(read_byte(&byte), 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* ---- A handler before us that jumps ------------------------------------ */

static sigjmp_buf landing;

static void
jumping_handler(int signo)
{
    (void)signo;
    calls++;
    siglongjmp(landing, 1);
}

static __attribute__((noinline)) void
send_deeper(const struct source *source, size_t depth)
{
    volatile unsigned char frame[depth + 1];

    frame[0] = frame[depth] = 1;
    if (sigsetjmp(landing, 1) == 0) {
        source->send();
        await_death();
    }
    CHECK_EQ(frame[depth], 1);
}

/* What an earlier signal left on the stack, now gone, must not be taken for this
 * one's: it may lie above, below, or where the kernel has put the new one. */
static void
jump_at_depths(const void *argument)
{
    const struct source *source = argument;
    sig_atomic_t want = 0;

    CHECK(signal(SIGBUS, jumping_handler) != SIG_ERR);
    CHECK_EQ(safemmap_install(), 0);
    for (size_t i = 0; i < 500; i++) {
        send_deeper(source, 0);
        CHECK_EQ(calls, ++want);
        send_deeper(source, i * 16);
        CHECK_EQ(calls, ++want);
        check_recovers(&gone);
    }
    for (size_t i = 0; i < 500; i++) {
        send_deeper(source, i * 4096);
        CHECK_EQ(calls, ++want);
    }
}

static void
handler_that_jumps_from_fault(void)
{
    gone = file_gone();
    CHECK_EQ(end_in_child(jump_at_depths, &sources[0]), 0);
}

static void
handler_that_jumps_from_raise(void)
{
    gone = file_gone();
    CHECK_EQ(end_in_child(jump_at_depths, &sources[2]), 0);
}

/* ---- A cycle of handlers ----------------------------------------------- */

static struct sigaction ours;
static volatile sig_atomic_t calls_above;

static void
call_ours(int signo, siginfo_t *info, void *context)
{
    calls_above++;
    CHECK(calls_above < 100);
    ours.sa_sigaction(signo, info, context);
}

static void
make_cycle(void)
{
    struct sigaction action = {.sa_sigaction = call_ours, .sa_flags = SA_SIGINFO};

    CHECK_EQ(safemmap_install(), 0);
    CHECK_CALL(sigaction(SIGBUS, &action, &ours));
    CHECK(is_entry(&ours));
    CHECK_EQ(safemmap_install(), 0);
    check_recovers(&gone);
    CHECK_EQ(calls_above, 0);
}

static void
die_in_cycle(const void *source)
{
    make_cycle();
    die(source);
}

static void
cycle_ends_in_default(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
    CHECK_EQ(end_in_child(die_in_cycle, source), SIGBUS);
}

static void
handle_in_cycle(const void *source)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

    sigaddset(&action.sa_mask, SIGUSR2);
    CHECK_CALL(sigaction(SIGBUS, &action, NULL));
    make_cycle();
    check_handled(source, SA_SIGINFO);
    CHECK_EQ(calls_above, 1);
    CHECK_EQ(calls, 1);
}

static void
cycle_ends_in_older_handler(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
    CHECK_EQ(end_in_child(handle_in_cycle, source), 0);
}

/* ---- A handler above that leaves again --------------------------------- */

/* As faulthandler's does once it is disabled. */
static void
do_nothing(int signo)
{
    (void)signo;
    calls_above++;
    CHECK(calls_above < 100);
}

/* Above us, below us, and gone: what it found is put back. */
static void
come_and_go(void)
{
    struct sigaction action = {.sa_handler = do_nothing};

    CHECK_EQ(safemmap_install(), 0);
    for (int i = 0; i < 3 * SAFEMMAP__ENTRIES; i++) {
        CHECK_CALL(sigaction(SIGBUS, &action, &ours));
        CHECK(is_entry(&ours));
        CHECK_EQ(safemmap_install(), 0);
        check_recovers(&gone);
        CHECK_CALL(sigaction(SIGBUS, &ours, NULL));
        /* Nobody needs to have seen that it was gone, within limits. */
        if (i % 16 == 0)
            CHECK_EQ(safemmap_install(), 0);
        check_recovers(&gone);
    }
}

static void
die_without_it(const void *source)
{
    come_and_go();
    die(source);
}

static void
displacer_that_left(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
    CHECK_EQ(end_in_child(die_without_it, source), SIGBUS);
}

static void
handle_without_it(const void *source)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};

    sigaddset(&action.sa_mask, SIGUSR2);
    CHECK_CALL(sigaction(SIGBUS, &action, NULL));
    come_and_go();
    check_handled(source, SA_SIGINFO);
    CHECK_EQ(calls, 1);
    CHECK_EQ(calls_above, 0);
}

static void
older_handler_after_displacer_left(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
    CHECK_EQ(end_in_child(handle_without_it, source), 0);
}

static struct safemmap__chain *
chain_now(void)
{
    return __atomic_load_n(&safemmap__chain, __ATOMIC_SEQ_CST);
}

static void *
install_in_thread(void *unused)
{
    CHECK_EQ(safemmap_install(), 0);
    return unused;
}

/* Above us, and gone once another thread has begun to go above it: there that waits
 * for the registry, between the two. */
static void
leave_meanwhile(void)
{
    struct sigaction action = {.sa_handler = do_nothing};
    const struct safemmap__chain *before;
    pthread_t thread;

    CHECK_EQ(safemmap_install(), 0);
    before = chain_now();
    CHECK_CALL(sigaction(SIGBUS, &action, &ours));
    safemmap__registry_lock();
    CHECK_EQ(pthread_create(&thread, NULL, install_in_thread, NULL), 0);
    while (chain_now() == before)
        usleep(100);
    CHECK_CALL(sigaction(SIGBUS, &ours, NULL));
    safemmap__registry_unlock();
    CHECK_EQ(pthread_join(thread, NULL), 0);
    check_recovers(&gone);
}

static void
handle_meanwhile(const void *source)
{
    install_before_us(SA_SIGINFO);
    leave_meanwhile();
    check_handled(source, SA_SIGINFO);
    CHECK_EQ(calls, 1);
    CHECK_EQ(calls_above, 0);
}

static void
die_meanwhile(const void *source)
{
    leave_meanwhile();
    die(source);
}

static void
displacer_that_leaves_meanwhile(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
        {
            CHECK_EQ(end_in_child(handle_meanwhile, source), 0);
            CHECK_EQ(end_in_child(die_meanwhile, source), SIGBUS);
        }
}

static void *
uninstall_in_thread(void *unused)
{
    CHECK_EQ(safemmap_uninstall(), -EBUSY);
    return unused;
}

/* Once another thread has seen that nothing is above us, and waits for the registry.
 * (Where it comes too late, it sees the displacer: also -EBUSY.) */
static void
displacer_that_comes_while_uninstalling(void)
{
    struct sigaction action = {.sa_handler = do_nothing}, now;
    pthread_t thread;

    gone = file_gone();
    CHECK_EQ(safemmap_install(), 0);
    safemmap__registry_lock();
    CHECK_EQ(pthread_create(&thread, NULL, uninstall_in_thread, NULL), 0);
    usleep(20 * 1000);
    CHECK_CALL(sigaction(SIGBUS, &action, &ours));
    CHECK(is_entry(&ours));
    safemmap__registry_unlock();
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_CALL(sigaction(SIGBUS, NULL, &now));
    CHECK(now.sa_handler == do_nothing);
    CHECK_EQ(safemmap_install(), 0);
    check_recovers(&gone);
    CHECK_CALL(sigaction(SIGBUS, &ours, NULL));
    CHECK_EQ(safemmap_uninstall(), 0);
    CHECK_CALL(sigaction(SIGBUS, NULL, &now));
    CHECK(now.sa_handler == SIG_DFL);
}

/* ---- Handlers above that leave in the order in which they came ----------- */

static void
do_nothing_else(int signo)
{
    do_nothing(signo);
}

enum { CHECKED_BETWEEN = 1, CHECKED_AFTER = 2, WAYS_TO_LEAVE = 4 };

/* The first puts back an older entry than the second does later. */
static void
leave_in_order(unsigned way)
{
    struct sigaction action = {.sa_handler = do_nothing}, first, second;

    CHECK_EQ(safemmap_install(), 0);
    CHECK_CALL(sigaction(SIGBUS, &action, &first));
    CHECK_EQ(safemmap_install(), 0);
    action.sa_handler = do_nothing_else;
    CHECK_CALL(sigaction(SIGBUS, &action, &second));
    CHECK(first.sa_sigaction != second.sa_sigaction);
    if ((way & CHECKED_BETWEEN) != 0)
        CHECK_EQ(safemmap_install(), 0);
    CHECK_CALL(sigaction(SIGBUS, &first, NULL));
    CHECK_EQ(safemmap_install(), 0);
    CHECK_CALL(sigaction(SIGBUS, &second, NULL));
    if ((way & CHECKED_AFTER) != 0)
        CHECK_EQ(safemmap_install(), 0);
}

static void
die_after_all_left(const void *source)
{
    for (unsigned way = 0; way < WAYS_TO_LEAVE; way++)
        leave_in_order(way);
    die(source);
}

static void
handle_after_all_left(const void *source)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    struct safemmap_action actions[4];

    sigaddset(&action.sa_mask, SIGUSR2);
    for (unsigned way = 0; way < WAYS_TO_LEAVE; way++) {
        note.at[0] = way;
        gone = file_gone();
        CHECK_CALL(sigaction(SIGBUS, &action, NULL));
        leave_in_order(way);
        check_handled(source, SA_SIGINFO);
        CHECK_EQ(safemmap_get_actions(actions, COUNT_OF(actions)), 2);
        CHECK(actions[0].ours);
        CHECK_EQ(actions[1].function, (uintptr_t)handler);
        CHECK_EQ(safemmap_uninstall(), 0);
        CHECK_CALL(sigaction(SIGBUS, NULL, &action));
        CHECK(action.sa_sigaction == handler);
        file_free(&gone);
    }
    CHECK_EQ(calls_above, 0);
}

static void
displacers_that_left_in_order(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
        {
            CHECK_EQ(end_in_child(die_after_all_left, source), SIGBUS);
            CHECK_EQ(end_in_child(handle_after_all_left, source), 0);
        }
}

/* ---- Put back by signal(3), without SA_SIGINFO --------------------------- */

static void
die_without_siginfo(const void *source)
{
    CHECK_EQ(safemmap_install(), 0);
    put_back_by_signal();
    ((const struct source *)source)->send();
    await_death();
}

static void
handle_without_siginfo(const void *source)
{
    install_before_us(SA_SIGINFO);
    put_back_by_signal();
    repairs = true;
    ((const struct source *)source)->send();
    await_call(1);
}

static void
put_back_without_siginfo(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
        {
            CHECK_EQ(end_in_child(die_without_siginfo, source), SIGBUS);
            CHECK_EQ(end_in_child(handle_without_siginfo, source), 0);
        }
}

/* As faulthandler's does when it is enabled: once, then to who was there before. */
static void
restore_and_raise(int signo)
{
    calls_above++;
    *skip_reason = (char)('0' + calls_above);
    CHECK_CALL(sigaction(SIGBUS, &ours, NULL));
    raise(signo);
}

static void
die_after_restoring(const void *source)
{
    struct sigaction action = {.sa_handler = restore_and_raise,
                               .sa_flags = SA_NODEFER};

    CHECK_EQ(safemmap_install(), 0);
    CHECK_CALL(sigaction(SIGBUS, &action, &ours));
    CHECK_EQ(safemmap_install(), 0);
    check_recovers(&gone);
    die(source);
}

static void
displacer_that_raises_is_asked_once(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
        {
            CHECK_EQ(end_in_child(die_after_restoring, source), SIGBUS);
            CHECK_EQ(*skip_reason, '1');
            *skip_reason = '\0';
        }
}

/* An older handler that gives up as many do: default action, and raise. */
static void
give_up(int signo)
{
    calls++;
    *skip_reason = (char)('0' + calls);
    signal(signo, SIG_DFL);
    raise(signo);
}

static void
die_by_giving_up(const void *source)
{
    CHECK(signal(SIGBUS, give_up) != SIG_ERR);
    die(source);
}

static void
handler_that_gives_up(void)
{
    gone = file_gone();
    for
        EACH_SOURCE(source)
        {
            CHECK_EQ(end_in_child(die_by_giving_up, source), SIGBUS);
            CHECK_EQ(*skip_reason, '1');
            *skip_reason = '\0';
        }
}

/* Above us again and again, and never gone. */
static void
displaced_for_ever(void)
{
    struct sigaction action = {.sa_handler = do_nothing}, displaced;
    struct file file = file_new(1);
    struct safemmap_fault fault;
    unsigned char byte;

    gone = file_gone();
    CHECK_EQ(safemmap_install(), 0);
    for (int i = 0; i < SAFEMMAP_REINSTALLS; i++) {
        CHECK_CALL(sigaction(SIGBUS, &action, &displaced));
        CHECK(is_entry(&displaced));
        CHECK_EQ(safemmap_install(), 0);
    }
    CHECK_CALL(sigaction(SIGBUS, &action, &displaced));
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(safemmap_install(), -EBUSY);
        CHECK_EQ(safemmap_load(file.map + 3, &byte, &fault), 1);
        CHECK_EQ(byte, pattern(3));
        CHECK_EQ(safemmap_load(gone.map + 3, &byte, &fault), -EFAULT);
        CHECK_EQ(fault.address, (uintptr_t)gone.map + 3);
    }
    CHECK_EQ(calls_above, 0);

    /* It has left. */
    CHECK_CALL(sigaction(SIGBUS, &displaced, NULL));
    CHECK_EQ(safemmap_install(), 0);
    CHECK_EQ(safemmap_load(file.map + 3, &byte, &fault), 0);
    check_recovers(&gone);
}

TEST_MAIN(TEST(default_kills), TEST(default_kills_after_recovered_faults),
          TEST(default_kills_beside_a_guard), TEST(handler_is_called),
          TEST(resethand_is_called_once),
          TEST(resethand_is_called_once_by_two_chains), TEST(ignored),
          TEST(ignored_signals_do_not_interrupt),
          TEST(previous_handler_runs_on_its_own_stack),
          TEST(handler_that_jumps_from_fault), TEST(handler_that_jumps_from_raise),
          TEST(cycle_ends_in_default), TEST(cycle_ends_in_older_handler),
          TEST(displaced_for_ever), TEST(displacer_that_left),
          TEST(older_handler_after_displacer_left),
          TEST(displacer_that_leaves_meanwhile),
          TEST(displacer_that_comes_while_uninstalling),
          TEST(displacers_that_left_in_order), TEST(put_back_without_siginfo),
          TEST(displacer_that_raises_is_asked_once), TEST(handler_that_gives_up))

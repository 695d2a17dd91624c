/* What else may live in a process: handlers of SIGBUS as others write them, and
 * threads that Python has never seen. Scripts of ../isolated load it with ctypes. */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- Handlers ---------------------------------------------------------- */

/* What the next signal for them has to look like. */
uintptr_t neighbour_address;
pid_t neighbour_sender;

/* What the handler in use displaced. */
static struct sigaction previous;

/* (dprintf does not allocate for so little, and what is interrupted here holds no
 * lock of stdio.) */
static void
tell(const char *name, const siginfo_t *info)
{
    if (info->si_code > 0)
        dprintf(STDOUT_FILENO, "%s: code %d, %s address\n", name, info->si_code,
                (uintptr_t)info->si_addr == neighbour_address ? "true" : "false");
    else
        dprintf(STDOUT_FILENO, "%s: code %d, %s sender\n", name, info->si_code,
                info->si_pid == neighbour_sender ? "true" : "false");
}

static void
put_back(void)
{
    sigaction(SIGBUS, &previous, NULL);
}

static void
pass_on(int signo, siginfo_t *info, void *context)
{
    if ((previous.sa_flags & SA_SIGINFO) != 0) {
        previous.sa_sigaction(signo, info, context);
        return;
    }
    put_back();
    if (info->si_code <= 0)
        raise(signo);
}

/* Leaves a fault to who was there before: the instruction meets it again. A signal
 * that was sent ends here. */
static void
plain(int signo)
{
    dprintf(STDOUT_FILENO, "plain: signal %d\n", signo);
    put_back();
}

/* Mends a fault of its own; a signal that was sent ends here. */
static void
with_siginfo(int signo, siginfo_t *info, void *context)
{
    long page = sysconf(_SC_PAGESIZE);

    if (info->si_code > 0 && (uintptr_t)info->si_addr != neighbour_address) {
        pass_on(signo, info, context);
        return;
    }
    tell("SA_SIGINFO", info);
    if (info->si_code > 0)
        mmap((void *)(neighbour_address & -(uintptr_t)page), (size_t)page, PROT_READ,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void
chains(int signo, siginfo_t *info, void *context)
{
    tell("chains", info);
    pass_on(signo, info, context);
}

enum { NEVER_CHAINS_STATUS = 3 };

static void
never_chains(int signo, siginfo_t *info, void *context)
{
    (void)signo, (void)context;
    tell("never chains", info);
    _exit(NEVER_CHAINS_STATUS);
}

static void
raises_again(int signo, siginfo_t *info, void *context)
{
    (void)context;
    tell("raises again", info);
    put_back();
    raise(signo);
}

/* 0, or -1 where there is no handler of that name. Installed above itself it keeps
 * what it displaced first. */
int
neighbour_install(const char *name)
{
    static const struct {
        const char *name;
        void (*handler)(int, siginfo_t *, void *);
    } known[] = {{"SA_SIGINFO", with_siginfo},
                 {"chains", chains},
                 {"never chains", never_chains},
                 {"raises again", raises_again}};
    struct sigaction action, displaced;

    memset(&action, 0, sizeof(action));
    sigemptyset(&action.sa_mask);
    action.sa_flags = SA_SIGINFO;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(name, known[i].name) == 0)
            action.sa_sigaction = known[i].handler;
    if (strcmp(name, "plain") == 0) {
        action.sa_handler = plain;
        action.sa_flags = 0;
    }
    if (action.sa_sigaction == NULL || sigaction(SIGBUS, &action, &displaced) < 0)
        return -1;
    if (displaced.sa_sigaction != action.sa_sigaction)
        previous = displaced;
    return 0;
}

void
neighbour_remove(void)
{
    put_back();
}

/* ---- Threads ----------------------------------------------------------- */

struct reader {
    const volatile unsigned char *at;
    bool own_stack_for_signals;
    int byte;
};

static void *
read_byte(void *data)
{
    struct reader *reader = data;
    stack_t stack = {.ss_size = (size_t)sysconf(_SC_SIGSTKSZ)};

    if (reader->own_stack_for_signals) {
        stack.ss_sp = malloc(stack.ss_size);
        if (stack.ss_sp == NULL || sigaltstack(&stack, NULL) < 0)
            abort();
    }
    reader->byte = *reader->at;
    if (reader->own_stack_for_signals) {
        stack.ss_flags = SS_DISABLE;
        sigaltstack(&stack, NULL);
        free(stack.ss_sp);
    }
    return NULL;
}

/* The byte at `at` as a new thread reads it, with a stack of `stack_size` bytes, or
 * the smallest that there is for 0. A negative errno where there is no such thread.
 */
int
neighbour_read(const volatile unsigned char *at, size_t stack_size,
               bool own_stack_for_signals)
{
    struct reader reader = {at, own_stack_for_signals, 0};
    pthread_attr_t attributes;
    pthread_t thread;
    int error;

    if (stack_size == 0) {
        stack_size = (size_t)sysconf(_SC_THREAD_STACK_MIN);
        /* musl's has no room for the context of a signal. */
        if (stack_size < 16384)
            stack_size = 16384 + getauxval(AT_MINSIGSTKSZ);
    }
    pthread_attr_init(&attributes);
    error = pthread_attr_setstacksize(&attributes, stack_size);
    if (error == 0)
        error = pthread_create(&thread, &attributes, read_byte, &reader);
    pthread_attr_destroy(&attributes);
    if (error != 0)
        return -error;
    pthread_join(thread, NULL);
    return reader.byte;
}

static void *
call(void *callback)
{
    (*(void (**)(void))callback)();
    return NULL;
}

/* Calls `callback` on a new thread. 0, or a negative errno. */
int
neighbour_call(void (*callback)(void))
{
    pthread_t thread;
    int error = pthread_create(&thread, NULL, call, &callback);

    return error != 0 ? -error : pthread_join(thread, NULL);
}

/* ---- The end of the process -------------------------------------------- */

static const volatile unsigned char *read_last;

static void
read_at_exit(void)
{
    dprintf(STDOUT_FILENO, "read %d\n", *read_last);
}

/* Reads the byte at `at` when the interpreter is gone. 0, or -1. */
int
neighbour_read_at_exit(const volatile unsigned char *at)
{
    read_last = at;
    return atexit(read_at_exit) != 0 ? -1 : 0;
}

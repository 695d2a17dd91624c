/* For _interrupt.c: finds the Python thread that waits for a thread which Python does
 * not know.
 *
 * A thread that has a library work in the library's own pool has called that library,
 * and waits in it: the library's return addresses lie on both stacks. Any memory read
 * here may be unreadable or changing, so the kernel copies it. A false return address
 * only makes the guess worse.
 */
#include "_waiting.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OBJECTS = 1024, RANGES = 2048 };

void
safemmap_stack_copy(struct safemmap_stack *ret_stack, uintptr_t start)
{
    struct iovec local = {ret_stack->word, sizeof(ret_stack->word)};
    struct iovec remote = {(void *)(start & ~(sizeof(uintptr_t) - 1)),
                           sizeof(ret_stack->word)};
    ssize_t size = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);

    /* (Less where the stack ends.) */
    ret_stack->count = size < 0 ? 0 : (size_t)size / sizeof(uintptr_t);
}

/* ---- The libraries of the process --------------------------------------- */

/* The ranges of their code, each with the number of its library. */
struct libraries {
    int count;
    int ranges;
    struct {
        uintptr_t start, end;
        int library;
    } range[RANGES];
    bool everybodys[OBJECTS];
};

/* Whether unrelated threads have this library on their stacks. */
static bool
is_everybodys(const struct dl_phdr_info *info, uintptr_t start, uintptr_t end)
{
    static const char *const runtimes[] = {"ld-linux", "ld-musl", "linux-vdso",
                                           "libstdc++", "libgcc_s"};
    const uintptr_t known[] = {(uintptr_t)Py_IncRef, (uintptr_t)getpid,
                               (uintptr_t)pthread_create,
                               (uintptr_t)safemmap_stack_copy};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i] >= start && known[i] < end)
            return true;
    for (size_t i = 0; i < sizeof(runtimes) / sizeof(runtimes[0]); i++)
        if (strstr(info->dlpi_name, runtimes[i]) != NULL)
            return true;
    return info->dlpi_name[0] == '\0'; /* the program itself, the vdso */
}

/* For dl_iterate_phdr(3). */
static int
add_library(struct dl_phdr_info *info, size_t size, void *context)
{
    struct libraries *libraries = context;

    (void)size;
    if (libraries->count == OBJECTS)
        return 1;
    for (int i = 0; i < info->dlpi_phnum && libraries->ranges < RANGES; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + header->p_vaddr;
        uintptr_t end = start + header->p_memsz;

        if (header->p_type != PT_LOAD || (header->p_flags & PF_X) == 0)
            continue;
        libraries->range[libraries->ranges].start = start;
        libraries->range[libraries->ranges].end = end;
        libraries->range[libraries->ranges].library = libraries->count;
        libraries->ranges++;
        if (is_everybodys(info, start, end))
            libraries->everybodys[libraries->count] = true;
    }
    libraries->count++;
    return 0;
}

/* Adds the libraries that are on the stack. */
static void
find_on(const struct libraries *libraries, const struct safemmap_stack *stack,
        bool *found)
{
    for (size_t i = 0; i < stack->count; i++)
        for (int j = 0; j < libraries->ranges; j++)
            if (stack->word[i] >= libraries->range[j].start &&
                stack->word[i] < libraries->range[j].end) {
                found[libraries->range[j].library] = true;
                break;
            }
}

/* ---- The threads -------------------------------------------------------- */

/* Reads a file of /proc about the thread; "" without one. */
static void
read_about(unsigned long thread, const char *name, char *ret_text, size_t room)
{
    char path[64];
    ssize_t size = 0;
    int fd;

    snprintf(path, sizeof(path), "/proc/self/task/%lu/%s", thread, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        size = read(fd, ret_text, room - 1);
        close(fd);
    }
    ret_text[size < 0 ? 0 : size] = '\0';
}

long
safemmap_minor_faults(pid_t thread)
{
    char text[512], *field;
    long count = -1;

    read_about((unsigned long)thread, "stat", text, sizeof(text));
    /* The name, in parentheses, may hold anything. */
    field = strrchr(text, ')');
    if (field != NULL)
        sscanf(field, ") %*c %*d %*d %*d %*d %*d %*u %ld", &count);
    return count;
}

/* The stack pointer of a thread that is in a system call; or 0. */
static uintptr_t
stack_pointer(unsigned long thread)
{
    char text[256];
    const char *field = text;

    read_about(thread, "syscall", text, sizeof(text));
    /* The number of the call, six arguments, the stack pointer, the instruction. */
    for (int i = 0; i < 7 && field != NULL; i++) {
        field = strchr(field, ' ');
        field = field == NULL ? NULL : field + 1;
    }
    return field == NULL ? 0 : (uintptr_t)strtoul(field, NULL, 16);
}

/* For a thread that computes: an address from which the outermost frames fit into a
 * struct safemmap_stack. */
static uintptr_t
stack_before_end(const PyThreadState *thread)
{
    const size_t most = sizeof(((struct safemmap_stack *)NULL)->word);
    pthread_attr_t attributes;
    void *start = NULL;
    size_t size = 0;

    if (pthread_getattr_np((pthread_t)thread->thread_id, &attributes) != 0)
        return 0;
    pthread_attr_getstack(&attributes, &start, &size);
    pthread_attr_destroy(&attributes);
    return (uintptr_t)start + (size > most ? size - most : 0);
}

PyThreadState *
safemmap_waiting_thread(PyInterpreterState *interpreter,
                        bool (*is_idle)(PyThreadState *),
                        const struct safemmap_stack *stack, uintptr_t here,
                        const struct safemmap_stack *left)
{
    /* Too large for a stack; the GIL is held. */
    static struct libraries libraries;
    static struct safemmap_stack other;
    static bool wanted[OBJECTS], found[OBJECTS];
    PyThreadState *best = NULL;
    int most = 0;

    libraries.count = libraries.ranges = 0;
    memset(libraries.everybodys, 0, sizeof(libraries.everybodys));
    dl_iterate_phdr(add_library, &libraries);
    memset(wanted, 0, sizeof(wanted));
    find_on(&libraries, stack, wanted);
    for (PyThreadState *thread = PyInterpreterState_ThreadHead(interpreter);
         thread != NULL; thread = PyThreadState_Next(thread)) {
        const bool is_ours = thread == PyThreadState_Get();
        uintptr_t start;
        int common = 0;

        if (is_idle(thread))
            continue;
        start = is_ours ? here : stack_pointer(thread->native_thread_id);
        memset(found, 0, sizeof(found));
        safemmap_stack_copy(&other, start != 0 ? start : stack_before_end(thread));
        find_on(&libraries, &other, found);
        if (is_ours && left != NULL)
            find_on(&libraries, left, found);
        for (int i = 0; i < libraries.count; i++)
            common += wanted[i] && found[i] && !libraries.everybodys[i];
        if (common > most) {
            most = common;
            best = thread;
        }
    }
    return best;
}

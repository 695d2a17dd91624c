/* Finds the Python thread that waits for a thread which Python does not know, such as
 * one of a library's pool. */
#ifndef SAFEMMAP_WAITING_H
#define SAFEMMAP_WAITING_H

#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The words on a thread's stack, from the innermost frame outwards. */
enum { SAFEMMAP_STACK_WORDS = 2048 };
struct safemmap_stack {
    size_t count;
    uintptr_t word[SAFEMMAP_STACK_WORDS];
};

/* Copies the stack that begins at this address; of any thread. Async-signal-safe. */
void safemmap_stack_copy(struct safemmap_stack *ret_stack, uintptr_t start);

/* How often the kernel has mapped a page for the thread of this process without I/O;
 * -1 where that is not known, or the thread has ended. */
long safemmap_minor_faults(pid_t thread);

/* The thread, of those which are not idle, whose stack has most libraries in common
 * with `stack`; or NULL. Needs the GIL. `here`: where the stack of the calling thread
 * begins, without what it is called for now; `left`: remains of returned calls beyond
 * that, if it may have waited until just now, or NULL. */
PyThreadState *safemmap_waiting_thread(PyInterpreterState *interpreter,
                                       bool (*is_idle)(PyThreadState *),
                                       const struct safemmap_stack *stack,
                                       uintptr_t here,
                                       const struct safemmap_stack *left);

#endif

/* Exceptions in the thread whose access faulted, before it can use a zero. For the
 * parts of the module that are written in Cython. */
#ifndef SAFEMMAP_INTERRUPT_H
#define SAFEMMAP_INTERRUPT_H

#include <Python.h>

#include "safemmap.h"

/* A new exception for the fault; or NULL, without an exception set: none is due any
 * more, since what it would be about has ended. */
typedef PyObject *safemmap_make_error(const struct safemmap_event *event);

/* All of these need the GIL. */

/* From now on faults that the core reports to its hook raise what `make` returns, an
 * instance of the class `error`. Any number of times. -1: an exception is set. */
int safemmap_interrupt_start(PyObject *error, safemmap_make_error *make);
/* At the end of the interpreter. */
void safemmap_interrupt_stop(void);

/* Whoever waits for an exception about the region gets none any more: one thread, by
 * the kernel's id, or with 0 all of them. */
void safemmap_interrupt_cancel(uint64_t region, pid_t thread);

#endif

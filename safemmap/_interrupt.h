/* Decides which thread gets the exception for a fault, and raises it there.
 * The interface for the Cython parts of the module. */
#ifndef SAFEMMAP_INTERRUPT_H
#define SAFEMMAP_INTERRUPT_H

#include <Python.h>
#include <stdbool.h>

#include "safemmap.h"

/* A new exception for the fault; or NULL: with none set it is no longer due, since
 * the region or the protection has ended, and otherwise it could not be made. */
typedef PyObject *safemmap_make_error(const struct safemmap_event *event);

/* All of these need the GIL. */

/* From now on faults that the core reports to its hook raise what `make` returns, an
 * instance of the class `error`. Any number of times. -1: an exception is set. */
int safemmap_interrupt_start(PyObject *error, safemmap_make_error *make);
/* At the end of the interpreter. */
void safemmap_interrupt_stop(void);

/* Cancels pending exceptions about the region: of one thread, by the kernel's id, or
 * with 0 of all. */
void safemmap_interrupt_cancel(uint64_t region, pid_t thread);

/* Whether the main thread was to raise an exception, or still is, and runs no code of
 * the program's any more: called at the interpreter's end. */
bool safemmap_interrupt_is_too_late(void);

#endif

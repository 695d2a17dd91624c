/* Calls that the interpreter is asked for in the signal handler. */
#ifndef SAFEMMAP_PENDING_H
#define SAFEMMAP_PENDING_H

#include <Python.h>

#include <stdbool.h>

/* From now on they are made in the calling interpreter. Called again by the child of
 * a fork, whose lock another thread may have held. Needs the GIL. */
void safemmap_pending_open(void);
/* At the end of the interpreter: nothing of it is touched any more. */
void safemmap_pending_close(void);

/* Has `call` made soon by some thread that runs Python, or by the main thread alone;
 * on 3.11 always by that. False: there is no room, or no interpreter.
 * Async-signal-safe. */
bool safemmap_pending_add(int (*call)(void *), void *argument, bool main_thread);

#endif

/* What unregistered.c offers handler.c, echo.c, process.c and fork.c. Not installed.
 */
#ifndef SAFEMMAP_UNREGISTERED_H
#define SAFEMMAP_UNREGISTERED_H

#include "internal.h"

#pragma GCC visibility push(hidden)

/* Answers a fault in memory of no region with zeroed pages. False: it is forwarded.
 */
bool safemmap__overlay_unregistered(const siginfo_t *info, const ucontext_t *context);
/* The same for a fault that another handler was called for. */
bool safemmap__overlay_unregistered_echoed(uintptr_t address);

/* Whether it does so at all. To begin with is 0, or a negative errno: the mappings of
 * the process cannot be asked for. */
int safemmap__unregistered_begin(void);
void safemmap__unregistered_end(void);
bool safemmap__unregistered_begun(void);
/* In the child of a fork: what tells of the mappings tells of the parent's. */
void safemmap__unregistered_after_fork(void);

#pragma GCC visibility pop

#endif

/* What process_overlay.c offers handler.c, echo.c, process.c and fork.c. Not
 * installed. */
#ifndef SAFEMMAP_PROCESS_OVERLAY_H
#define SAFEMMAP_PROCESS_OVERLAY_H

#include "internal.h"

#pragma GCC visibility push(hidden)

/* Answers a fault in memory of no region with zeroed pages. False: it is forwarded.
 */
bool safemmap__process_overlay(const siginfo_t *info, const ucontext_t *context);

/* Switches this on and off. begin() returns 0, or a negative errno if the list of
 * mappings cannot be read. */
int safemmap__process_overlay_begin(struct safemmap__member *member);
/* Ends it, once no other member wants it. */
void safemmap__process_overlay_end(struct safemmap__member *member);
bool safemmap__process_overlay_begun(void);
/* In the child of a fork, where the open list of mappings is still the parent's. */
void safemmap__process_overlay_after_fork(void);

#pragma GCC visibility pop

#endif

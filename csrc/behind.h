/* What behind.c offers fork.c. Not installed. */
#ifndef SAFEMMAP_BEHIND_H
#define SAFEMMAP_BEHIND_H

#include "internal.h"

#pragma GCC visibility push(hidden)

/* Around fork(), and in the child before the second. */
void safemmap__behind_lock(void);
void safemmap__behind_unlock(void);
void safemmap__behind_after_fork(void);

#pragma GCC visibility pop

#endif

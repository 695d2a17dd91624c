/* What mappings.c offers process_overlay.c and behind.c. Not installed. */
#ifndef SAFEMMAP_MAPPINGS_H
#define SAFEMMAP_MAPPINGS_H

#include "internal.h"

#pragma GCC visibility push(hidden)

/* An open list of the process's mappings (os.h), for one caller at a time. */
struct safemmap__mappings {
    int fd;       /* -1: it is not open */
    pid_t owner;  /* the process whose mappings it lists: not a forked child */
    pid_t thread; /* it ends with that one; 0: with the process */
    dev_t device;
    ino_t inode;
};

/* Opens it, unless it is open and lists this process's. 0, or a negative errno. */
int safemmap__mappings_open(struct safemmap__mappings *mappings);
/* In the child of a fork, where it lists the parent's. */
void safemmap__mappings_close(struct safemmap__mappings *mappings);

#pragma GCC visibility pop

#endif

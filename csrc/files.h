/* What files.c keeps for unregistered.c. Not installed. */
#ifndef SAFEMMAP_FILES_H
#define SAFEMMAP_FILES_H

#include "internal.h"

#pragma GCC visibility push(hidden)

/* A file that has lost pages. All is guarded by safemmap__pages. */
struct safemmap__file {
    uint32_t id;
    bool deleted;
    dev_t device;
    ino_t inode;
    int64_t harmless_at; /* when it was found that none of it is executable */
    struct safemmap__steps steps;
    unsigned singles; /* pages that were replaced alone */
    char *path;       /* SAFEMMAP__PATH bytes */
};

/* The one with this identity, new if need be: one that was not used for long makes
 * room. */
struct safemmap__file *safemmap__file_for(dev_t device, ino_t inode);
/* NULL: it has made room for another. */
struct safemmap__file *safemmap__file_by_id(uint32_t id);

/* Of what file the pages were that zeros have replaced. */
struct safemmap__origin {
    ino_t zeros;    /* the file of the zeros, */
    uint64_t token; /* from where on in it, */
    uint64_t size;  /* and how far */
    uint32_t file;  /* safemmap__file.id */
    dev_t device;
    ino_t inode;
    uint64_t offset; /* of the first page */
};

/* The older ones of too many are forgotten. Tokens come in falling order. */
void safemmap__origin_add(const struct safemmap__origin *origin);
/* False: it is not known (any more). */
bool safemmap__origin_of(ino_t zeros, uint64_t offset,
                         struct safemmap__origin *ret_origin);

#pragma GCC visibility pop

#endif

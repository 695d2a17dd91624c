/* What origins.c remembers for process_overlay.c: which file's pages each overlay
 * replaced. Not installed. */
#ifndef SAFEMMAP_ORIGINS_H
#define SAFEMMAP_ORIGINS_H

#include "internal.h"

#pragma GCC visibility push(hidden)

/* A file that has lost pages. All is guarded by safemmap__pages. */
struct safemmap__file {
    uint32_t id;
    bool deleted;
    dev_t device;
    ino_t inode;
    int64_t harmless_at; /* when it was last found not to be mapped executable */
    struct safemmap__steps steps;
    size_t singles; /* replacements with good pages around them */
    char *path;     /* SAFEMMAP__PATH bytes */
};

/* The entry for this identity. A new one takes the place of the oldest. */
struct safemmap__file *safemmap__file_for(dev_t device, ino_t inode);
/* NULL: another file has taken its place. */
struct safemmap__file *safemmap__file_by_id(uint32_t id);

/* The file whose pages an overlay replaced. */
struct safemmap__origin {
    ino_t zeros;    /* the overlay's memory file, */
    uint64_t token; /* its offset in that, */
    uint64_t size;  /* and its size in bytes */
    uint32_t file;  /* safemmap__file.id */
    dev_t device;
    ino_t inode;
    uint64_t offset; /* of the first page */
};

/* When there is no room, the oldest is forgotten. Tokens come in falling order, on
 * either side of SAFEMMAP__ZEROS_END. */
void safemmap__origin_add(const struct safemmap__origin *origin);
/* False: not known, or forgotten. */
bool safemmap__origin_of(ino_t zeros, uint64_t offset,
                         struct safemmap__origin *ret_origin);

#pragma GCC visibility pop

#endif

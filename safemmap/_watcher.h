/* The thread that warns of faults, as _fault_queue.pxi sees it. */
#ifndef SAFEMMAP_WATCHER_H
#define SAFEMMAP_WATCHER_H

#include <stdbool.h>

/* What _fault_queue.pxi does, with the GIL held: */
struct safemmap_watched {
    /* Events have come: called on some Python thread, between two instructions. */
    void (*news)(void);
    /* Warns of what is due. Returns in how many seconds more will be, or a negative
     * number: nothing will. */
    double (*warn)(void);
};

/* Has events looked after in the calling interpreter, from now until
 * safemmap_watcher_leave(). Called again by the child of a fork. */
void safemmap_watcher_attend(const struct safemmap_watched *watched);
/* Of the end of the interpreter: nothing of it is touched any more. */
void safemmap_watcher_leave(void);

/* Asks for `news` on some thread that runs Python, or is about to. Async-signal-safe.
 * */
void safemmap_watcher_ask(void);

/* These need the GIL. */

/* Has `warn` called in so many seconds, and on. Without a thread to be had nothing
 * happens; nor between hold and release. */
void safemmap_watcher_start(double seconds);
/* Ends the thread, and keeps others from being started. Waits for a warning that is
 * being given, with the GIL released, but not for ever. */
void safemmap_watcher_hold(void);
void safemmap_watcher_release(void);

#endif

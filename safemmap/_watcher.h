/* The thread that warns of faults, as _fault_queue.pxi sees it. */
#ifndef SAFEMMAP_WATCHER_H
#define SAFEMMAP_WATCHER_H

#include <stdbool.h>

/* Callbacks into _fault_queue.pxi, with the GIL held. */
struct safemmap_watched {
    /* Events have come: called on some Python thread, between two instructions. */
    void (*news)(void);
    /* Gives the warnings that are due. Returns the seconds until the next one, or a
     * negative number if there is none. */
    double (*warn)(void);
};

/* Calls these in the calling interpreter when there are events, until
 * safemmap_watcher_leave(). Called again by the child of a fork. */
void safemmap_watcher_attend(const struct safemmap_watched *watched);
/* At the end of the interpreter, which is not used any more from here on. */
void safemmap_watcher_leave(void);

/* Has `news` called soon, on some thread that runs Python code. Async-signal-safe. */
void safemmap_watcher_ask(void);

/* These need the GIL. */

/* Calls `news` now. */
void safemmap_watcher_take_news(void);
/* Has `warn` called in so many seconds, and later as it returns. Does nothing if no
 * thread can be started, or between hold and release. */
void safemmap_watcher_start(double seconds);
/* Ends the thread, and keeps it from being started. With the GIL released, waits for
 * a warning that is being given, up to a second. */
void safemmap_watcher_hold(void);
void safemmap_watcher_release(void);

#endif

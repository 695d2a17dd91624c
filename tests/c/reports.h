/* Notes what is reported to the fault hook. */
#ifndef REPORTS_H
#define REPORTS_H

#include "harness.h"

static unsigned reports;
static struct safemmap_event last;

static inline bool
note_report(const struct safemmap_event *event)
{
    last = *event;
    __atomic_fetch_add(&reports, 1, __ATOMIC_SEQ_CST);
    return false;
}

static inline unsigned
reports_since(void)
{
    return __atomic_exchange_n(&reports, 0, __ATOMIC_SEQ_CST);
}

static inline unsigned
events_since(void)
{
    struct safemmap_event event;
    unsigned count = 0;

    while (safemmap_event_take(&event))
        count++;
    return count;
}

/* Each time the memory file is cut further below. The file's second page is lost. */
static inline void
withdraw_often(const struct file *file)
{
    for (int i = 0; i < 100; i++) {
        CHECK_EQ(load(file, PAGE), 0);
        CHECK_EQ(safemmap_withdraw(last.token), 0);
    }
}

#endif

/* Runs only outside the signal: conditions that wait by a clock which nobody sets.
 * (Those of macOS cannot.) */
#include "os.h"

const clockid_t safemmap__os_condition_clock = CLOCK_MONOTONIC;

void
safemmap__os_condition_init(pthread_cond_t *condition)
{
    pthread_condattr_t clock;

    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &clock);
    pthread_condattr_destroy(&clock);
}

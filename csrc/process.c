/* Runs only outside the signal: protects the mappings of the whole process. */
#include "unregistered.h"

int
safemmap_process_enable(void)
{
    int error;

    if ((error = safemmap__zeros_prepare()) < 0 || (error = safemmap_install()) < 0)
        return error;
    return safemmap__unregistered_begin();
}

void
safemmap_process_disable(void)
{
    safemmap__unregistered_end();
}

bool
safemmap_process_enabled(void)
{
    return safemmap__unregistered_begun();
}

/* Runs only outside the signal: switches process_overlay.c on and off. */
#include "process_overlay.h"

int
safemmap_process_enable(void)
{
    int error;

    if ((error = safemmap__zeros_prepare()) < 0 || (error = safemmap_install()) < 0)
        return error;
    return safemmap__process_overlay_begin();
}

void
safemmap_process_disable(void)
{
    safemmap__process_overlay_end();
}

bool
safemmap_process_enabled(void)
{
    return safemmap__process_overlay_begun();
}

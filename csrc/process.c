/* Runs only outside the signal: switches process_overlay.c on and off. */
#include "copies.h"
#include "process_overlay.h"

int
safemmap_process_enable(void)
{
    int error;

    if (safemmap__host != NULL)
        return safemmap__host->process_enable();
    if ((error = safemmap__zeros_prepare()) < 0 || (error = safemmap_install()) < 0)
        return error;
    return safemmap__process_overlay_begin();
}

void
safemmap_process_disable(void)
{
    if (safemmap__host != NULL) {
        safemmap__host->process_disable();
        return;
    }
    safemmap__process_overlay_end();
}

bool
safemmap_process_enabled(void)
{
    if (safemmap__host != NULL)
        return safemmap__host->process_enabled();
    return safemmap__process_overlay_begun();
}

/* Runs only outside the signal: switches process_overlay.c on and off. */
#include "copies.h"
#include "process_overlay.h"

int
safemmap__process_enable(struct safemmap__member *member)
{
    int error;

    if ((error = safemmap__zeros_prepare()) < 0 ||
        (error = safemmap__install(member)) < 0)
        return error;
    return safemmap__process_overlay_begin(member);
}

int
safemmap_process_enable(void)
{
    return safemmap__host != NULL ? safemmap__host->process_enable(&safemmap__own)
                                  : safemmap__process_enable(&safemmap__own);
}

void
safemmap_process_disable(void)
{
    if (safemmap__host != NULL)
        safemmap__host->process_disable(&safemmap__own);
    else
        safemmap__process_overlay_end(&safemmap__own);
}

bool
safemmap_process_enabled(void)
{
    if (safemmap__host != NULL)
        return safemmap__host->process_enabled();
    return safemmap__process_overlay_begun();
}

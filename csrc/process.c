/* Runs inside the signal and outside: answers faults in memory of no region. */
#include "internal.h"

#include <errno.h>

int
safemmap_process_enable(void)
{
    return -ENOSYS;
}

void
safemmap_process_disable(void)
{
}

bool
safemmap_process_enabled(void)
{
    return false;
}

ssize_t
safemmap_file_path(uint32_t id, char *ret_path, size_t room)
{
    (void)id;
    (void)ret_path;
    (void)room;
    return -ENOSYS;
}

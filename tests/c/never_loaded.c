/* A library whose constructor does not return, so that the thread that loads it keeps
 * the linker's lock. */
#include <stdlib.h>
#include <unistd.h>

__attribute__((constructor)) static void
wait_for_ever(void)
{
    const char *fd = getenv("TOLD_WHILE_LOADING");

    if (write(atoi(fd), "", 1) == 1)
        for (;;)
            pause();
}

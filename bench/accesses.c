/* Guarded accesses without Python, for `instructions` to count: so many loads, copies
 * of 64 bytes, or rounds of the empty loop.
 */
#include "safemmap.h"

#include <stdlib.h>
#include <string.h>

int
main(int argc, char **argv)
{
    static unsigned char source[64], target[64];
    struct safemmap_fault fault;
    const char *what = argc == 3 ? argv[1] : "";
    long count = argc == 3 ? strtol(argv[2], NULL, 10) : 0;
    int error = 0;

    if (strcmp(what, "loop") == 0)
        for (long i = 0; i < count; i++)
            __asm__ volatile("" : "+r"(error));
    else if (strcmp(what, "load") == 0)
        for (long i = 0; i < count; i++)
            error |= safemmap_load(source, target, &fault);
    else if (strcmp(what, "copy") == 0)
        for (long i = 0; i < count; i++)
            error |= safemmap_copy(target, source, sizeof(target), &fault);
    else
        return 2;
    return error != 0;
}

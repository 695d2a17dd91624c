/* The other file: a guard around a loop of its own. */
#include <safemmap_python.h>

#include "native.h"

static unsigned long
sum(const unsigned char *map, size_t size)
{
    unsigned long total = 0;

    for (size_t i = 0; i < size; i++)
        total += map[i];
    return total;
}

PyObject *
native_total(const unsigned char *map, size_t size)
{
    volatile unsigned long total = 0;

    SAFEMMAP_TRY(map, size)
    {
        total = sum(map, size);
    }
    SAFEMMAP_CATCH(fault)
    {
        return safemmap_raise(&fault, map, size, "total");
    }
    return PyLong_FromUnsignedLong(total);
}

// SAFEMMAP_TRY in C++: what is made before the block is destroyed once, whichever way
// the block is left. Prints what went wrong.
#include "safemmap.h"

#include <cstdio>
#include <stdexcept>
#include <sys/mman.h>
#include <unistd.h>

namespace
{
int alive, failures;

struct Counted {
    Counted()
    {
        alive++;
    }
    ~Counted()
    {
        alive--;
    }
};

const volatile unsigned char *gone;

void
check(bool right, const char *what)
{
    if (!right) {
        std::printf("%s\n", what);
        failures++;
    }
}

int
faults()
{
    Counted before;
    volatile int result = 0;

    SAFEMMAP_TRY (gone, 1) {
        result = *gone;
    }
    SAFEMMAP_CATCH (fault) {
        Counted inside;
        result = fault.address == reinterpret_cast<uintptr_t>(gone) ? fault.code : -1;
    }
    return result;
}

int
returns()
{
    Counted before;

    SAFEMMAP_TRY (gone, 1) {
        return 3;
    }
    SAFEMMAP_CATCH (fault) {
        return fault.code;
    }
    return 0;
}

void
throws()
{
    Counted before;

    SAFEMMAP_TRY (gone, 1) {
        throw std::runtime_error("out of the block");
    }
    SAFEMMAP_CATCH (fault) {
        check(false, "nothing faulted");
        static_cast<void>(fault);
    }
}

bool
nests()
{
    Counted before;

    SAFEMMAP_TRY (gone, 1) {
        try {
            throws();
        } catch (const std::runtime_error &) {
        }
        check(faults() == 2, "the inner block's own fault");
        static_cast<void>(*gone);
    }
    SAFEMMAP_CATCH (fault) {
        return fault.code == 2;
    }
    return false;
}
}

int
main()
{
    int fd = memfd_create("gone", 0);
    void *map = mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0);

    gone = static_cast<const volatile unsigned char *>(map);
    for (int i = 0; i < 100; i++) {
        check(faults() == 2, "a fault");
        check(returns() == 3, "a return");
        try {
            throws();
            check(false, "no exception");
        } catch (const std::runtime_error &) {
        }
        check(nests(), "a fault after an exception");
        check(alive == 0, "an object was not destroyed, or twice");
    }
    return failures != 0;
}

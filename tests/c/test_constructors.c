/* The library in a constructor of the program's, as objects of C++ have them: before
 * main(), and before the linker comes to the library's own constructors, if these are
 * in no better order. */
#include "harness.h"

static struct {
    int load, copy, caught, region, hooked_in, checks;
    uintptr_t address;
    bool poisoned;
} early;

static int
catch_fault(const unsigned char *map)
{
    SAFEMMAP_TRY(map, 4096)
    {
        (void)*(volatile const unsigned char *)map;
    }
    SAFEMMAP_CATCH(fault)
    {
        return fault.code;
    }
    return 0;
}

__attribute__((constructor)) static void
before_main(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct safemmap_region region = {.page_size = page, .protection = PROT_READ};
    struct safemmap_fault fault = {0, 0};
    unsigned char bytes[1000];
    int fd = memfd_create("gone", MFD_CLOEXEC);
    unsigned char *map = mmap(NULL, page, PROT_READ, MAP_SHARED, fd, 0);

    early.load = safemmap_load(map + 5, bytes, &fault);
    early.address = fault.address - (uintptr_t)map;
    early.copy = safemmap_copy(bytes, map, sizeof(bytes), &fault);
    early.caught = catch_fault(map);
    region.start = (uintptr_t)map;
    region.end = region.start + page;
    region.fd = fd;
    early.region = safemmap_region_add(&region);
    if (early.region == 0)
        (void)*(volatile unsigned char *)map;
    early.poisoned = safemmap_region_poisoned(&region);
    early.checks = safemmap_checks_start();
    safemmap_checks_stop();
    early.hooked_in = safemmap__fork_error;
    safemmap_region_remove(&region);
    safemmap_uninstall();
    munmap(map, page);
    close(fd);
}

static void
used_before_main(void)
{
    CHECK_EQ(early.load, -EFAULT);
    CHECK_EQ(early.address, 5);
    CHECK_EQ(early.copy, -EFAULT);
    CHECK_EQ(early.caught, BUS_ADRERR);
    CHECK_EQ(early.region, 0);
    CHECK(early.poisoned);
    CHECK_EQ(early.checks, 0);
    CHECK_EQ(early.hooked_in, 0);
}

TEST_MAIN(TEST(used_before_main))

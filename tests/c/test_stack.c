/* How much of a thread's stack the handler takes, on each of its paths, beside the
 * frame that the kernel puts there for every signal. */
#include "limits.h"

#include <sys/auxv.h>

/* What csrc/README.md promises. */
#ifdef __aarch64__
enum { HANDLER_NEEDS = 2560 };
#else
enum { HANDLER_NEEDS = 2048 };
#endif

/* ---- Measuring ---------------------------------------------------------- */

#define STACK_SIZE ((size_t)64 * 1024)
enum { PAINT = 0xa5 };

static unsigned char *stack;
static struct file gone;

/* How far signals have reached into the alternate stack since it was painted. */
static size_t
depth(void)
{
    size_t untouched = 0;

    while (untouched < STACK_SIZE && stack[untouched] == PAINT)
        untouched++;
    CHECK(untouched > 0);
    return STACK_SIZE - untouched;
}

static size_t
depth_of(void (*path)(void))
{
    memset(stack, PAINT, STACK_SIZE);
    path();
    return depth();
}

static void
do_nothing(int signo)
{
    (void)signo;
}

static void
send_ourselves(void)
{
    raise(SIGBUS);
}

/* What the kernel's frame takes, and a handler that needs nothing. */
static size_t
depth_without_us(void)
{
    struct sigaction action = {.sa_handler = do_nothing, .sa_flags = SA_ONSTACK};
    struct sigaction before;
    size_t found;

    CHECK_CALL(sigaction(SIGBUS, &action, &before));
    found = depth_of(send_ourselves);
    CHECK_CALL(sigaction(SIGBUS, &before, NULL));
    return found;
}

static void
check_path(const char *name, void (*path)(void))
{
    size_t frame = depth_without_us(), first = depth_of(path), all = depth_of(path);

    if (all < first)
        all = first;
    printf("# %-28s %5zu bytes beside the %zu of a signal\n", name, all - frame,
           frame);
    note = NOTE(name, (long)all, (long)frame);
    CHECK(all > frame);
    CHECK(all - frame <= HANDLER_NEEDS);
}

/* ---- Paths -------------------------------------------------------------- */

static void
leave_a_small_copy(void)
{
    struct safemmap_fault fault;
    unsigned char byte;

    CHECK_EQ(safemmap_load(gone.map + 5, &byte, &fault), -EFAULT);
}

static void
leave_a_guard(void)
{
    struct safemmap_fault fault;
    unsigned char bytes[1000];

    CHECK_EQ(safemmap_gather(bytes, gone.map, 2, 500, &fault), -EFAULT);
}

static bool puts_back;

static void
overlay_a_region(void)
{
    struct file file = file_new(3);
    struct safemmap_region region = region_of(&file);

    region.put_back = puts_back;
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 1);
    CHECK_EQ(load(&file, PAGE), 0);
    safemmap_region_remove(&region);
    file_free(&file);
}

static void
overlay_page_by_page(void)
{
    struct file file = file_new(64);
    struct safemmap_region region = region_of(&file);

    region.fd = -1;
    region.put_back = puts_back;
    CHECK_EQ(safemmap_region_add(&region), 0);
    file_cut(&file, 0);
    for (size_t page = 0; page < file.pages; page++)
        CHECK_EQ(load(&file, (page * 37 % file.pages) * PAGE), 0);
    safemmap_region_remove(&region);
    file_free(&file);
}

/* The first fault in each file takes most. */
static void
overlay_no_region(void)
{
    struct file file = file_new(3);

    file_cut(&file, 1);
    CHECK_EQ(load(&file, PAGE), 0);
    file_free(&file);
}

static struct sigaction below_us;

static void
raise_it(int signo)
{
    CHECK_CALL(sigaction(signo, &below_us, NULL));
    raise(signo);
}

/* A handler above that runs on another stack: only the echo is on this one. */
static void
put_above(void)
{
    struct sigaction action = {.sa_handler = raise_it, .sa_flags = SA_NODEFER};

    CHECK_CALL(sigaction(SIGBUS, &action, &below_us));
}

static void
echo_in_a_small_copy(void)
{
    put_above();
    leave_a_small_copy();
}

static void
echo_under_a_guard(void)
{
    put_above();
    leave_a_guard();
}

static void
echo_in_a_region(void)
{
    struct file file = file_gone();
    struct safemmap_region region = region_of(&file);

    region.put_back = puts_back;
    CHECK_EQ(safemmap_region_add(&region), 0);
    put_above();
    CHECK_EQ(load(&file, 5), 0);
    CHECK(safemmap_region_poisoned(&region));
    safemmap_region_remove(&region);
    file_free(&file);
}

/* `send_ourselves` is forwarded, to a handler that needs nothing. */
static const struct test paths[] = {
    TEST(leave_a_small_copy),   TEST(leave_a_guard),        TEST(overlay_a_region),
    TEST(overlay_page_by_page), TEST(echo_in_a_small_copy), TEST(echo_under_a_guard),
    TEST(echo_in_a_region),     TEST(send_ourselves),       TEST(overlay_no_region),
};

/* ---- The tests ---------------------------------------------------------- */

static void
use_stack(unsigned char *start, size_t size)
{
    stack_t alternate = {.ss_sp = start, .ss_size = size};

    CHECK_CALL(sigaltstack(&alternate, NULL));
}

static void
begin(void)
{
    struct sigaction action = {.sa_handler = do_nothing, .sa_flags = SA_ONSTACK};

#ifndef __OPTIMIZE__
    skip("frames are larger in code that is not optimised");
#endif
    if (SANITIZED)
        skip("a sanitizer's frames are larger");
    gone = file_gone();
    CHECK_CALL(sigaction(SIGBUS, &action, NULL));
    CHECK_EQ(safemmap_process_enable(), 0);
}

static void
measured(void)
{
    begin();
    stack = malloc(STACK_SIZE);
    CHECK(stack != NULL);
    use_stack(stack, STACK_SIZE);
    for (int i = 0; i < 2; i++) {
        puts_back = i == 1;
        for (size_t j = 0; j < COUNT_OF(paths); j++)
            check_path(paths[j].name, paths[j].run);
    }
    without_query();
    check_path("overlay_no_region, without ioctl", overlay_no_region);
}

/* On a stack that has just what a signal takes, by the kernel's own word, and that,
 * at the edge of a page which cannot be touched. */
static void
on_the_smallest_stack(void)
{
    const size_t size = (size_t)getauxval(AT_MINSIGSTKSZ) + HANDLER_NEEDS;
    unsigned char *memory =
        mmap(NULL, STACK_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    begin();
    if (getauxval(AT_MINSIGSTKSZ) == 0)
        skip("the kernel does not tell how much a signal takes");
    CHECK(memory != MAP_FAILED && size + PAGE <= STACK_SIZE);
    CHECK_CALL(mprotect(memory + PAGE, STACK_SIZE - PAGE, PROT_READ | PROT_WRITE));
    use_stack(memory + PAGE, size);
    for (int i = 0; i < 2; i++) {
        puts_back = i == 1;
        for (size_t j = 0; j < COUNT_OF(paths); j++)
            paths[j].run();
    }
}

TEST_MAIN(TEST(measured), TEST(on_the_smallest_stack))

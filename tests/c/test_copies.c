/* Several copies of the library in one process: loaded and used in every order. The
 * program itself has none. */
#include "harness.h"

#include <dlfcn.h>

/* 0 and 1 are the same; 2 and 3 are of other layouts, and cannot share anything. Most
 * tests use the first three. */
enum { COPIES = 3, ALL_COPIES };
static struct copy {
    void *handle;
    int (*install)(void);
    int (*load)(const void *, unsigned char *, struct safemmap_fault *);
    int (*copy)(void *, const void *, size_t, struct safemmap_fault *);
    int (*find)(const void *, size_t, const void *, size_t, ptrdiff_t *,
                struct safemmap_fault *);
    int (*region_add)(struct safemmap_region *);
    int (*region_update)(struct safemmap_region *, uintptr_t, uintptr_t);
    int (*region_remove)(struct safemmap_region *);
    bool (*region_poisoned)(const struct safemmap_region *);
    bool (*event_take)(struct safemmap_event *);
    int (*event_fd)(void);
    void (*get_counts)(struct safemmap_counts *);
    int (*process_enable)(void);
    void (*guard_arm)(struct safemmap_guard *, const volatile void *, size_t);
    void (*guard_end)(struct safemmap_guard *);
    struct safemmap_fault (*guard_caught)(void);
} copies[ALL_COPIES];

static void
find(void *handle, const char *name, void *ret_function)
{
    char symbol[64];
    void *function;

    snprintf(symbol, sizeof(symbol), "safemmap_%s", name);
    function = dlsym(handle, symbol);
    CHECK(function != NULL);
    memcpy(ret_function, &function, sizeof(function));
}
#define FIND(member) find(copy->handle, #member, &copy->member)

static void
open_copy(int number)
{
    struct copy *copy = &copies[number];
    char path[4096];

    snprintf(path, sizeof(path), DIRECTORY "/copy_%d.so", number);
    copy->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (copy->handle == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(copy->handle != NULL);
    FIND(install);
    FIND(load);
    FIND(copy);
    FIND(find);
    FIND(region_add);
    FIND(region_update);
    FIND(region_remove);
    FIND(region_poisoned);
    FIND(event_take);
    FIND(event_fd);
    FIND(get_counts);
    FIND(process_enable);
    FIND(guard_arm);
    FIND(guard_end);
    FIND(guard_caught);
}

static struct file gone;

static void
recovers(const struct copy *copy)
{
    struct safemmap_fault fault = {0, 0};
    unsigned char bytes[1000];
    ptrdiff_t index;

    CHECK_EQ(copy->load(gone.map + 5, bytes, &fault), -EFAULT);
    CHECK_EQ(fault.address, (uintptr_t)gone.map + 5);
    CHECK_EQ(copy->copy(bytes, gone.map + 7, 1000, &fault), -EFAULT);
    CHECK_EQ(fault.address, (uintptr_t)gone.map + 7);
    CHECK_EQ(copy->find(gone.map, PAGE, "absent", 6, &index, &fault), -EFAULT);
}

static uint64_t
installs(void)
{
    struct safemmap_counts counts;
    uint64_t sum = 0;

    for (int i = 0; i < COPIES; i++)
        if (copies[i].handle != NULL) {
            copies[i].get_counts(&counts);
            sum += counts.installs;
        }
    return sum;
}

/* Each order of some of the three, in which they are loaded, and in which they fault.
 */
static const int orders[][COPIES] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

UNSEEN static void
touch_gone(const void *unused)
{
    (void)unused;
    (void)*(volatile unsigned char *)gone.map;
}

static void
use_in_order(const int *used)
{
    uint64_t before;

    for (int i = 0; i < COPIES; i++)
        recovers(&copies[used[i]]);
    before = installs();
    for (int turn = 0; turn < SCALED(3000); turn++)
        recovers(&copies[turn % COPIES]);
    for (int i = 0; i < COPIES; i++)
        CHECK_EQ(copies[i].install(), 0);
    CHECK_EQ(installs(), before);
    CHECK_EQ(end_in_child(touch_gone, NULL), SIGBUS);
}

static void
run_order(const void *argument)
{
    const int *loaded = argument;

    gone = file_gone();
    for (size_t j = 0; j < COUNT_OF(orders); j++) {
        pid_t child = fork();
        int status;

        CHECK(child >= 0);
        if (child == 0) {
            for (int i = 0; i < COPIES; i++)
                open_copy(loaded[i]);
            use_in_order(orders[j]);
            exit(0);
        }
        CHECK_CALL(waitpid(child, &status, 0));
        CHECK_EQ(status, 0);
    }
}

static void
loaded_and_used_in_every_order(void)
{
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        note = NOTE("order", (long)i);
        CHECK_EQ(status_in_child(run_order, orders[i], 60), 0);
    }
}

static void
used_as_soon_as_loaded(void)
{
    gone = file_gone();
    for (int i = 0; i < COPIES; i++) {
        open_copy(orders[4][i]);
        recovers(&copies[orders[4][i]]);
        for (int j = 0; j <= i; j++)
            recovers(&copies[orders[4][j]]);
    }
}

/* ---- Memory that both watch ---------------------------------------------- */

/* Each has the events of both. */
static void
check_events(const struct copy *copy)
{
    struct safemmap_event event;
    int names = 0;

    while (copy->event_take(&event)) {
        CHECK_EQ(event.offset, 5);
        names += strcmp(event.name, "zero") == 0 ? 1 : 10;
    }
    CHECK_EQ(names, 11);
}

static void
watched_by_both(void)
{
    struct file file = file_new(2);
    struct safemmap_region region[2] = {region_of(&file), region_of(&file)};

    open_copy(0);
    open_copy(1);
    strcpy(region[0].name, "zero");
    strcpy(region[1].name, "one");
    for (int i = 0; i < 2; i++) {
        CHECK_EQ(copies[i].install(), 0);
        CHECK(copies[i].event_fd() >= 0);
        CHECK_EQ(copies[i].region_add(&region[i]), 0);
        CHECK_EQ(copies[i].region_update(&region[i], region[i].start,
                                         region[i].start + PAGE),
                 0);
    }
    CHECK(copies[0].event_fd() != copies[1].event_fd());
    file_cut(&file, 0);
    CHECK_EQ(load(&file, 5), 0);
    for (int i = 0; i < 2; i++) {
        uint64_t count;

        CHECK(copies[i].region_poisoned(&region[i]));
        CHECK_EQ(read(copies[i].event_fd(), &count, sizeof(count)), 8);
        check_events(&copies[i]);
    }
    for (int i = 0; i < 2; i++)
        CHECK_EQ(copies[i].region_remove(&region[i]), 0);
}

static void
child_of_both(void)
{
    struct file file = file_new(2);
    struct safemmap_region region[2] = {region_of(&file), region_of(&file)};
    pid_t child;
    int status;

    gone = file_gone();
    open_copy(0);
    open_copy(1);
    for (int i = 0; i < 2; i++) {
        recovers(&copies[i]);
        CHECK_EQ(copies[i].region_add(&region[i]), 0);
    }
    CHECK_CALL(child = fork());
    file_cut(&file, 0);
    CHECK_EQ(load(&file, 5), 0);
    for (int i = 0; i < 2; i++) {
        struct safemmap_event event;

        CHECK(copies[i].region_poisoned(&region[i]));
        for (int j = 0; j < 2; j++)
            CHECK(copies[i].event_take(&event));
        CHECK(!copies[i].event_take(&event));
        recovers(&copies[i]);
    }
    for (int i = 0; i < 2; i++)
        CHECK_EQ(copies[i].region_remove(&region[i]), 0);
    if (child == 0)
        exit(0);
    CHECK_CALL(waitpid(child, &status, 0));
    CHECK_EQ(status, 0);
}

static void
enabled_by_a_guest(void)
{
    struct file file;

    gone = file_gone();
    open_copy(0);
    open_copy(1);
    if (copies[1].process_enable() < 0)
        skip("needs /proc");
    CHECK_CALL(file.fd = open("/tmp", O_TMPFILE | O_RDWR, 0600));
    CHECK_CALL(ftruncate(file.fd, (off_t)PAGE));
    file.map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file.fd, 0);
    CHECK(file.map != MAP_FAILED);
    CHECK_CALL(ftruncate(file.fd, 0));
    CHECK_EQ(load(&file, 5), 0);
    recovers(&copies[0]);
}

static void
recovers_in_a_block(const struct copy *copy)
{
    struct safemmap_guard guard;
    volatile int caught = 0;

    if (setjmp(guard.buffer) == 0) {
        copy->guard_arm(&guard, gone.map, PAGE);
        touch_gone(NULL);
    } else
        caught = copy->guard_caught().code;
    copy->guard_end(&guard);
    CHECK_EQ(caught, BUS_ADRERR);
}

static void
block_of_a_guest(void)
{
    gone = file_gone();
    open_copy(0);
    open_copy(1);
    recovers(&copies[0]);
    recovers_in_a_block(&copies[1]);
}

/* ---- Unloading ------------------------------------------------------------ */

static void
closed_and_opened_again(void)
{
    struct file file = file_new(1);
    struct safemmap_region region = region_of(&file);

    gone = file_gone();
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < COPIES; i++) {
            open_copy(i);
            recovers(&copies[i]);
        }
        if (round == 0)
            CHECK_EQ(copies[1].region_add(&region), 0);
        for (int closed = 0; closed < COPIES; closed++) {
            CHECK_EQ(dlclose(copies[closed].handle), 0);
            for (int i = closed + 1; i < COPIES; i++)
                recovers(&copies[i]);
        }
        CHECK_EQ(end_in_child(touch_gone, NULL), SIGBUS);
    }
    /* A region stays, whoever was closed. */
    file_cut(&file, 0);
    CHECK_EQ(load(&file, 0), 0);
    open_copy(1);
    CHECK(copies[1].region_poisoned(&region));
    CHECK_EQ(copies[1].region_remove(&region), 0);
}

/* ---- Others among them ------------------------------------------------------ */

static void
never_chains(int signo)
{
    (void)signo;
    _exit(9);
}

/* A handler between two that cannot share anything: neither relies on the other. */
static void
foreign_handler_between(void)
{
    gone = file_gone();
    for (int i = 0; i < COPIES; i++)
        open_copy(orders[1][i]);
    for (int round = 0; round < 10; round++)
        for (int i = 0; i < COPIES; i++) {
            for (int j = 0; j < COPIES; j++) {
                CHECK_EQ(copies[j].install(), 0);
                recovers(&copies[j]);
            }
            if (round < 3)
                CHECK(signal(SIGBUS, never_chains) != SIG_ERR);
        }
    CHECK(installs() < 40);
}

/* What the handler of one leaves on the stack, when it is left by a jump, is not
 * taken by another for its own. */
static void
three_handlers(void)
{
    const int used[] = {0, 2, 3};

    gone = file_gone();
    for (int i = 0; i < 3; i++) {
        open_copy(used[i]);
        CHECK_EQ(copies[used[i]].install(), 0);
        recovers_in_a_block(&copies[0]);
    }
}

TEST_MAIN(TEST(loaded_and_used_in_every_order), TEST(used_as_soon_as_loaded),
          TEST(watched_by_both), TEST(child_of_both), TEST(enabled_by_a_guest),
          TEST(block_of_a_guest), TEST(closed_and_opened_again),
          TEST(foreign_handler_between), TEST(three_handlers))

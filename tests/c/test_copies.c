/* Several copies of the library in one process: loaded and used in every order. The
 * program itself has none. */
#include "harness.h"

#include <dlfcn.h>
#include <sys/sendfile.h>

/* 0 and 1 are the same; 2 and 3 are of other layouts, and cannot share anything. Most
 * tests use the first three. */
enum { COPIES = 3, ALL_COPIES };
static struct copy {
    void *handle;
    int (*install)(void);
    int (*uninstall)(void);
    int (*checks_start)(void);
    void (*checks_stop)(void);
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
    void (*process_disable)(void);
    bool (*process_enabled)(void);
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
find_all(struct copy *copy)
{
    if (copy->handle == NULL)
        fprintf(stderr, "%s\n", dlerror());
    CHECK(copy->handle != NULL);
    FIND(install);
    FIND(uninstall);
    FIND(checks_start);
    FIND(checks_stop);
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
    FIND(process_disable);
    FIND(process_enabled);
    FIND(guard_arm);
    FIND(guard_end);
    FIND(guard_caught);
}

static const char *
path_of(int number)
{
    static char path[4096];

    snprintf(path, sizeof(path), DIRECTORY "/copy_%d.so", number);
    return path;
}

static void
open_copy(int number)
{
    copies[number].handle = dlopen(path_of(number), RTLD_NOW | RTLD_LOCAL);
    find_all(&copies[number]);
}

#if defined(LM_ID_NEWLM) && !SANITIZED
/* With a C library of its own, and out of the sight of the others. */
static void
open_in_namespace(int number)
{
    copies[number].handle = dlmopen(LM_ID_NEWLM, path_of(number), RTLD_NOW);
    find_all(&copies[number]);
}
#else
static void
open_in_namespace(int number)
{
    (void)number;
    skip("needs namespaces of the linker, which sanitizers do not know");
}
#endif

/* One more, the same as 0 and 1. */
static struct copy
open_another(void)
{
    int from = open(path_of(0), O_RDONLY | O_CLOEXEC),
        to = memfd_create("copy", MFD_CLOEXEC);
    struct copy copy;
    char path[64];

    CHECK_CALL(from);
    CHECK_CALL(to);
    while (sendfile(to, from, NULL, 1 << 20) > 0)
        continue;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", to);
    copy.handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    find_all(&copy);
    CHECK_CALL(close(from)); /* (The other one stays: dlopen(3) knows it by name.) */
    return copy;
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

/* In what order copies are loaded, and then used. */
struct turn {
    const int *loaded, *used;
};

/* Uses what is loaded so in every order, each in a child of its own. */
static void
run_orders(void (*body)(const void *), const int *loaded)
{
    for (size_t j = 0; j < COUNT_OF(orders); j++) {
        const struct turn turn = {loaded, orders[j]};

        CHECK_EQ(status_in_child(body, &turn, 60), 0);
    }
}

static void
load_and_use(const void *argument)
{
    const struct turn *turn = argument;

    for (int i = 0; i < COPIES; i++)
        open_copy(turn->loaded[i]);
    use_in_order(turn->used);
}

static void
run_order(const void *loaded)
{
    gone = file_gone();
    run_orders(load_and_use, loaded);
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

/* ---- Namespaces of the linker ---------------------------------------------- */

static void
load_and_use_namespaces(const void *argument)
{
    const struct turn *turn = argument;

    for (int i = 0; i < COPIES; i++)
        if (turn->loaded[i] == 0)
            open_copy(0);
        else
            open_in_namespace(turn->loaded[i]);
    use_in_order(turn->used);
    for (int i = 0; i < COPIES; i++)
        recovers_in_a_block(&copies[turn->used[i]]);
}

static void
run_namespaces(const void *loaded)
{
    run_orders(load_and_use_namespaces, loaded);
}

static void
namespaces_in_every_order(void)
{
    open_in_namespace(0); /* or skip */
    gone = file_gone();
    for (size_t i = 0; i < COUNT_OF(orders); i++) {
        note = NOTE("order", (long)i);
        CHECK_EQ(status_in_child(run_namespaces, orders[i], 60), 0);
    }
}

static void
recover_all(const void *unused)
{
    (void)unused;
    for (int i = 0; i < COPIES; i++) {
        recovers(&copies[i]);
        recovers_in_a_block(&copies[i]);
    }
}

/* Each has its own registry. */
static void
region_of_each_namespace(void)
{
    struct file file[COPIES] = {file_new(1), file_new(1), file_new(1)};
    struct safemmap_region region[COPIES];
    struct safemmap_event event;

    gone = file_gone();
    open_copy(0);
    open_in_namespace(1);
    open_in_namespace(2);
    for (int i = 0; i < COPIES; i++) {
        region[i] = region_of(&file[i]);
        CHECK_EQ(copies[i].install(), 0);
        CHECK_EQ(copies[i].region_add(&region[i]), 0);
        file_cut(&file[i], 0);
    }
    for (int i = 0; i < COPIES; i++) {
        CHECK_EQ(load(&file[i], 5), 0);
        for (int j = 0; j < COPIES; j++)
            CHECK_EQ(copies[j].event_take(&event), j == i);
        CHECK_EQ(copies[i].region_remove(&region[i]), 0);
        recovers_in_a_block(&copies[i]);
    }
    CHECK_EQ(end_in_child(recover_all, NULL), 0);
    CHECK_EQ(end_in_child(touch_gone, NULL), SIGBUS);
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

static struct file
file_of_nobody(void)
{
    struct file file = {.pages = 1};

    CHECK_CALL(file.fd = open("/tmp", O_TMPFILE | O_RDWR, 0600));
    CHECK_CALL(ftruncate(file.fd, (off_t)PAGE));
    file.map = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, file.fd, 0);
    CHECK(file.map != MAP_FAILED);
    CHECK_CALL(ftruncate(file.fd, 0));
    return file;
}

static void
enabled_by_a_guest(void)
{
    struct file file = file_of_nobody();

    gone = file_gone();
    open_copy(0);
    open_copy(1);
    if (copies[1].process_enable() < 0)
        skip("needs /proc");
    CHECK_EQ(load(&file, 5), 0);
    recovers(&copies[0]);
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

/* ---- Many ---------------------------------------------------------------- */

/* (How many there can be is up to the C library: each takes some of the thread-local
 * storage that it keeps for libraries which are loaded late.) */
static void
many(void)
{
    enum { MANY = 20 };
    struct file file = file_new(2);
    struct safemmap_region region = region_of(&file);
    struct safemmap_event event;
    struct copy copy[MANY];

    gone = file_gone();
    for (int i = 0; i < MANY; i++) {
        copy[i] = open_another();
        recovers(&copy[i]);
    }
    CHECK_EQ(copy[MANY - 1].region_add(&region), 0);
    file_cut(&file, 0);
    CHECK_EQ(load(&file, 5), 0);
    CHECK(copy[0].region_poisoned(&region));
    for (int i = 0; i < MANY; i++) {
        struct safemmap_counts counts;

        note = NOTE("copy", i);
        CHECK(copy[i].event_take(&event));
        CHECK_EQ(event.offset, 5);
        CHECK(!copy[i].event_take(&event));
        copy[i].get_counts(&counts);
        CHECK_EQ(counts.installs, 1);
    }
    CHECK_EQ(copy[0].region_remove(&region), 0);
}

/* ---- What one wants, no other ends ----------------------------------------- */

static bool
handler_is_ours(void)
{
    struct sigaction action;

    CHECK_CALL(sigaction(SIGBUS, NULL, &action));
    return action.sa_handler != SIG_DFL;
}

static void
uninstalled_by_the_last(void)
{
    for (int first = 0; first < 2; first++) {
        int last = 1 - first;

        gone = file_gone();
        open_copy(0);
        open_copy(1);
        recovers(&copies[last]);
        for (int again = 0; again < 2; again++) {
            CHECK_EQ(copies[first].uninstall(), 0);
            CHECK(handler_is_ours());
            recovers(&copies[0]);
            recovers(&copies[1]);
            recovers_in_a_block(&copies[last]);
        }
        CHECK_EQ(copies[last].uninstall(), 0);
        CHECK(!handler_is_ours());
        recovers(&copies[0]);
        recovers(&copies[1]);
        CHECK(!handler_is_ours());
        CHECK_EQ(copies[first].install(), 0);
        recovers_in_a_block(&copies[first]);
        CHECK_EQ(copies[last].install(), 0);
    }
}

/* It has not said that it does without. */
static void
loaded_after_the_handler_was_uninstalled(void)
{
    gone = file_gone();
    open_copy(0);
    recovers(&copies[0]);
    CHECK_EQ(copies[0].uninstall(), 0);
    open_copy(1);
    recovers_in_a_block(&copies[1]);
    CHECK(handler_is_ours());
    CHECK_EQ(end_in_child(touch_gone, NULL), SIGBUS);
}

static void
uninstalled_with_a_region_of_another(void)
{
    struct file file = file_new(1);
    struct safemmap_region region = region_of(&file);

    open_copy(0);
    open_copy(1);
    CHECK_EQ(copies[1].install(), 0);
    CHECK_EQ(copies[1].region_add(&region), 0);
    CHECK_EQ(copies[0].uninstall(), 0);
    CHECK_EQ(copies[1].uninstall(), -EADDRINUSE);
    file_cut(&file, 0);
    CHECK_EQ(load(&file, 5), 0);
    CHECK_EQ(copies[1].region_remove(&region), 0);
    CHECK_EQ(copies[1].uninstall(), 0);
    CHECK(!handler_is_ours());
}

static void
disabled_by_the_last(void)
{
    for (int first = 0; first < 2; first++) {
        struct file file = file_of_nobody();
        int last = 1 - first;

        gone = file_gone();
        open_copy(0);
        open_copy(1);
        for (int i = 0; i < 4; i++)
            if (copies[i % 2].process_enable() < 0)
                skip("needs /proc");
        for (int again = 0; again < 2; again++) {
            copies[first].process_disable();
            CHECK(copies[first].process_enabled());
            CHECK_EQ(load(&file, 5), 0);
        }
        CHECK_EQ(copies[last].uninstall(), -EADDRINUSE);
        CHECK_EQ(copies[first].uninstall(), 0);
        CHECK_EQ(copies[last].uninstall(), -EADDRINUSE);
        copies[last].process_disable();
        CHECK(!copies[first].process_enabled());
        CHECK_EQ(end_in_child(touch_gone, NULL), SIGBUS);
        CHECK_EQ(copies[last].uninstall(), 0);
        CHECK(!handler_is_ours());
        for (int i = 0; i < 2; i++)
            CHECK_EQ(copies[i].install(), 0);
    }
}

static size_t
threads(void)
{
    char status[4096];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t size = read(fd, status, sizeof(status) - 1);
    const char *line;

    CHECK(size > 0);
    status[size] = '\0';
    line = strstr(status, "\nThreads:");
    CHECK(line != NULL);
    CHECK_CALL(close(fd));
    return strtoul(line + strlen("\nThreads:"), NULL, 10);
}

static void
stopped_by_the_last(void)
{
    size_t before = threads();

    for (int first = 0; first < 2; first++) {
        open_copy(0);
        open_copy(1);
        for (int i = 0; i < 4; i++)
            CHECK_EQ(copies[i % 2].checks_start(), 0);
        CHECK_EQ(threads(), before + 1);
        copies[first].checks_stop();
        copies[first].checks_stop();
        CHECK_EQ(threads(), before + 1);
        copies[1 - first].checks_stop();
        CHECK_EQ(threads(), before);
    }
}

static void
child_in_which_each_ends(const void *unused)
{
    struct file read = file_of_nobody(), file = file_of_nobody();

    (void)unused;
    copies[0].process_disable();
    CHECK_EQ(load(&read, 5), 0);
    CHECK_EQ(copies[0].uninstall(), 0);
    CHECK(handler_is_ours());
    copies[1].process_disable();
    CHECK_EQ(copies[1].uninstall(), 0);
    CHECK(!handler_is_ours());
    load(&file, 5);
}

static void
child_ends_for_itself(void)
{
    struct file file = file_of_nobody();

    open_copy(0);
    open_copy(1);
    for (int i = 0; i < 2; i++)
        if (copies[i].process_enable() < 0)
            skip("needs /proc");
    CHECK_EQ(end_in_child(child_in_which_each_ends, NULL), SIGBUS);
    CHECK_EQ(load(&file, 5), 0);
    CHECK(handler_is_ours());
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

static void *
load_for_ever(void *unused)
{
    dlopen(DIRECTORY "/never_loaded.so", RTLD_NOW);
    return unused;
}

static void
check_below_another(const void *unused)
{
    (void)unused;
    CHECK(signal(SIGBUS, never_chains) != SIG_ERR);
    CHECK_EQ(copies[0].install(), 0);
    recovers(&copies[0]);
    _exit(0); /* the linker's lock will never be had */
}

/* By another thread; in the child there is none that could go on. */
static void
checked_while_a_library_is_loaded(void)
{
    pthread_t thread;
    int told[2];
    char number[16], byte;

    gone = file_gone();
    open_copy(0);
    recovers(&copies[0]);
    CHECK_CALL(pipe(told));
    snprintf(number, sizeof(number), "%d", told[1]);
    CHECK_CALL(setenv("TOLD_WHILE_LOADING", number, 1));
    CHECK_EQ(pthread_create(&thread, NULL, load_for_ever, NULL), 0);
    CHECK_EQ(read(told[0], &byte, 1), 1);
    CHECK_EQ(end_in_child(check_below_another, NULL), 0);
    check_below_another(NULL);
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
          TEST(namespaces_in_every_order), TEST(region_of_each_namespace),
          TEST(block_of_a_guest), TEST(many), TEST(uninstalled_by_the_last),
          TEST(loaded_after_the_handler_was_uninstalled),
          TEST(uninstalled_with_a_region_of_another), TEST(disabled_by_the_last),
          TEST(stopped_by_the_last), TEST(child_ends_for_itself),
          TEST(closed_and_opened_again), TEST(foreign_handler_between),
          TEST(checked_while_a_library_is_loaded), TEST(three_handlers))

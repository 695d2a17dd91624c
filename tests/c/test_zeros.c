/* The zeroed pages that replace others: what the kernel refuses, and how they go. */
#include "limits.h"

#include <sys/stat.h>
#include <sys/uio.h>

/* ---- Laying ------------------------------------------------------------ */

static int
map_zeros(uintptr_t address, size_t pages, int protection, uint64_t *ret_token)
{
    sigset_t mask = safemmap__hold_pages();
    int error = safemmap__zeros_map(address, pages * PAGE, protection, ret_token);

    safemmap__release_pages(&mask);
    return error;
}

static uint64_t
map_over(const struct file *file, size_t first, size_t pages)
{
    uint64_t token = 0;

    CHECK_EQ(map_zeros((uintptr_t)file->map + first * PAGE, pages,
                       PROT_READ | PROT_WRITE, &token),
             0);
    return token;
}

/* Whether the page can be read. */
static bool
is_there(const struct file *file, size_t page)
{
    char byte;
    struct iovec local = {&byte, 1}, remote = {file->map + page * PAGE, 1};

    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1;
}

static void
check_zeros(const struct file *file, size_t first, size_t pages)
{
    for (size_t i = first * PAGE; i < (first + pages) * PAGE; i += 511)
        CHECK_EQ(load(file, i), 0);
}

/* An older one goes, and a newer one stays. */
static void
check_goes(const struct file *file)
{
    uint64_t older = map_over(file, 1, 2), newer = map_over(file, 4, 3);

    CHECK(older != 0 && newer != 0 && newer < older);
    check_zeros(file, 1, 2);
    check_zeros(file, 4, 3);
    store(file, PAGE, 5);
    store(file, 6 * PAGE, 6);
    CHECK_EQ(safemmap_withdraw(older), 0);
    CHECK(!is_there(file, 1) && !is_there(file, 2));
    CHECK_EQ(load(file, 6 * PAGE), 6);
    CHECK_EQ(load(file, 3 * PAGE), pattern(3 * PAGE));
    CHECK_EQ(load(file, 7 * PAGE), pattern(7 * PAGE));
    CHECK_EQ(safemmap_withdraw(newer), 0);
    CHECK(!is_there(file, 4) && !is_there(file, 6));
    /* It is not undone by an older one. */
    CHECK_EQ(safemmap_withdraw(older), 0);
    CHECK(!is_there(file, 4) && !is_there(file, 1));
    map_over(file, 1, 2);
    check_zeros(file, 1, 2);
    CHECK(!is_there(file, 4));
}

static void
go_under(const void *limit)
{
    struct file file = file_new(8);

    CHECK_EQ(safemmap__zeros_prepare(), 0);
    map_over(&file, 0, 1);
    if (limits[*(const size_t *)limit].set != NULL)
        limits[*(const size_t *)limit].set();
    check_goes(&file);
}

static void
withdrawn(void)
{
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        if (SANITIZED && limits[i].set != NULL)
            continue; /* a sanitizer does not get along with them */
        note = NOTE("limit", (long)i);
        CHECK_EQ(end_in_child(go_under, &i), 0);
    }
}

static void
stay_under(const void *limit)
{
    struct file file = file_new(8);
    uintptr_t start = (uintptr_t)file.map;
    sigset_t mask;

    CHECK_EQ(safemmap__lasting_prepare(), 0);
    if (limits[*(const size_t *)limit].set != NULL)
        limits[*(const size_t *)limit].set();
    mask = safemmap__hold_pages();
    CHECK_EQ(safemmap__lasting_map(start + PAGE, 2 * PAGE, PROT_READ | PROT_WRITE),
             0);
    CHECK_EQ(safemmap__lasting_map(start + 4 * PAGE, 2 * PAGE, PROT_READ), 0);
    CHECK_EQ(safemmap__lasting_map(start + 6 * PAGE, PAGE, PROT_READ | PROT_WRITE),
             0);
    safemmap__release_pages(&mask);
    store(&file, 2 * PAGE + 3, 7);
    store(&file, 6 * PAGE + 3, 8);
    CHECK_EQ(load(&file, 2 * PAGE + 3), 7);
    CHECK_EQ(load(&file, 6 * PAGE + 3), 8);
    check_zeros(&file, 1, 1);
    check_zeros(&file, 4, 2);
    CHECK_EQ(load(&file, 0), pattern(0));
    CHECK_EQ(load(&file, 3 * PAGE), pattern(3 * PAGE));
    CHECK_EQ(load(&file, 7 * PAGE), pattern(7 * PAGE));
}

static void
lasting(void)
{
    for (size_t i = 0; i < COUNT_OF(limits); i++) {
        if (SANITIZED && limits[i].set != NULL)
            continue;
        note = NOTE("limit", (long)i);
        CHECK_EQ(end_in_child(stay_under, &i), 0);
    }
}

/* Where nothing will be to be had, one is told beforehand. Lasting ones do without a
 * file as long as there is other memory. */
static void
refused_beforehand(const void *which)
{
    switch (*(const int *)which) {
    case 0:
        forbid(SYS_memfd_create);
        CHECK_EQ(safemmap__zeros_prepare(), -EPERM);
        CHECK_EQ(safemmap__lasting_prepare(), 0);
        return;
    case 1:
        forbid_mmap();
        CHECK_EQ(safemmap__zeros_prepare(), -EPERM);
#ifdef __GLIBC__
        CHECK_EQ(safemmap__lasting_prepare(), -EPERM);
#else /* musl's mmap() takes an EPERM for want of memory */
        CHECK_EQ(safemmap__lasting_prepare(), -ENOMEM);
#endif
        return;
    case 2:
        limit_files();
        CHECK_EQ(safemmap__zeros_prepare(), -EMFILE);
        CHECK_EQ(safemmap__lasting_prepare(), 0);
        return;
    case 3:
        /* (Without a SIGXFSZ.) */
        SET_LIMIT(RLIMIT_FSIZE, 1 << 20);
        CHECK_EQ(safemmap__zeros_prepare(), -EFBIG);
        CHECK_EQ(safemmap__lasting_prepare(), 0);
        return;
    default:
        limit_locked_memory();
        CHECK_EQ(safemmap__zeros_prepare(), -EAGAIN);
        CHECK_EQ(safemmap__lasting_prepare(), -EAGAIN);
    }
}

static void
refused(void)
{
    if (SANITIZED)
        skip("a sanitizer needs what is forbidden here");
    for (int which = 0; which < 5; which++) {
        note = NOTE("which", which);
        CHECK_EQ(end_in_child(refused_beforehand, &which), 0);
    }
}

/* A file that can hold little does for a while. */
static void
small_files(void)
{
    struct file file = file_new(8);

    SET_LIMIT(RLIMIT_FSIZE, 25600 * PAGE);
    CHECK_EQ(safemmap__zeros_prepare(), 0);
    for (int i = 0; i < 1000; i++)
        check_goes(&file);
}

/* More than a duplicate of one source may reach. */
static void
far_from_the_source(void)
{
    const size_t size = (size_t)1 << 36;
    char *target;
    sigset_t mask;
    uint64_t token;

    if (SANITIZED)
        skip("a sanitizer knows no such large mappings");
    target = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                  -1, 0);
    if (target == MAP_FAILED)
        skip("needs address space");
    for (int i = 0; i < 16; i++) {
        struct file file = file_new(8);

        CHECK_EQ(safemmap__zeros_prepare(), 0);
        mask = safemmap__hold_pages();
        CHECK_EQ(safemmap__zeros_map((uintptr_t)target, size, PROT_READ, &token), 0);
        safemmap__release_pages(&mask);
        file_free(&file);
    }
    CHECK_EQ(safemmap__zeros_prepare(), 0);
    struct file file = file_new(8);
    forbid_mmap();
    check_goes(&file);
}

/* Memory is given back while the pages stay. */
static void
emptied(void)
{
    struct file file = file_new(8);
    uint64_t token;
    unsigned char resident[2] = {1, 1};
    sigset_t mask;

    CHECK_EQ(safemmap__zeros_prepare(), 0);
    token = map_over(&file, 2, 4);
    for (size_t page = 2; page < 6; page++)
        store(&file, page * PAGE, 9);
    mask = safemmap__hold_pages();
    safemmap__zeros_empty(token, 2 * PAGE);
    CHECK(!safemmap__zeros_are_withdrawn(token));
    safemmap__release_pages(&mask);
    CHECK_CALL(mincore(file.map + 2 * PAGE, 2 * PAGE, resident));
    CHECK_EQ(resident[0] | resident[1], 0);
    CHECK_EQ(load(&file, 2 * PAGE), 0);
    CHECK_EQ(load(&file, 3 * PAGE), 0);
    CHECK_EQ(load(&file, 4 * PAGE), 9);
    CHECK_EQ(load(&file, 5 * PAGE), 9);
    CHECK_EQ(safemmap_withdraw(token), 0);
    mask = safemmap__hold_pages();
    CHECK(safemmap__zeros_are_withdrawn(token));
    safemmap__zeros_empty(token, PAGE);
    safemmap__release_pages(&mask);
    CHECK(!is_there(&file, 2));
}

static void
write_read_only(const void *unused)
{
    struct file file = file_new(2);
    uint64_t token;

    (void)unused;
    signal(SIGSEGV, SIG_DFL); /* not a sanitizer's */
    CHECK_EQ(safemmap__zeros_prepare(), 0);
    CHECK_EQ(map_zeros((uintptr_t)file.map, 1, PROT_READ, &token), 0);
    CHECK_EQ(load(&file, 0), 0);
    store(&file, 0, 1);
}

static void
read_only(void)
{
    CHECK_EQ(end_in_child(write_read_only, NULL), SIGSEGV);
}

/* What is closed cannot be cut off; what is mapped from then on can. */
static void
closed(void)
{
    struct file file = file_new(8);
    uint64_t token;

    CHECK_EQ(safemmap__zeros_prepare(), 0);
    token = map_over(&file, 1, 2);
    reopen_all();
    CHECK_EQ(safemmap_withdraw(token), -EBADF);
    CHECK_EQ(load(&file, PAGE), 0);
    check_goes(&file);
    CHECK_EQ(safemmap_withdraw(token), -EBADF);
    /* It was no file of ours that was cut. */
    for (int fd = 3; fd < 8; fd++) {
        struct stat status;

        CHECK_CALL(fstat(fd, &status));
        CHECK(status.st_size == 0 || fd == 3 || status.st_size > 1 << 30);
    }
}

static bool stop;

/* ---- Forks ------------------------------------------------------------- */

static void
child_has_its_own(void)
{
    struct file file = file_new(8);
    uint64_t before;
    int status;
    pid_t child;

    CHECK_EQ(safemmap__zeros_prepare(), 0);
    before = map_over(&file, 0, 1);
    store(&file, 0, 3);
    CHECK_CALL(child = fork());
    if (child == 0) {
        /* The parent's are gone. */
        CHECK(!is_there(&file, 0));
        CHECK_EQ(safemmap_withdraw(before), -EBADF);
        check_goes(&file);
        store(&file, PAGE, 44);
        CHECK_EQ(safemmap_withdraw(before), -EBADF);
        exit(0);
    }
    CHECK_CALL(waitpid(child, &status, 0));
    CHECK_EQ(status, 0);
    CHECK(!is_there(&file, 0));
    uint64_t after = map_over(&file, 1, 2);
    check_zeros(&file, 1, 2);
    CHECK_EQ(safemmap_withdraw(before), 0);
    check_zeros(&file, 1, 2);
    CHECK_EQ(safemmap_withdraw(after), 0);
    CHECK(!is_there(&file, 1));
}

static void *
fork_again_and_again(void *unused)
{
    (void)unused;
    for (int i = 0; i < SCALED(300); i++) {
        int status;
        pid_t child = fork();

        CHECK_CALL(child);
        if (child == 0)
            _exit(0);
        CHECK_CALL(waitpid(child, &status, 0));
    }
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    return NULL;
}

/* A child cuts off what its parent has mapped at that moment; the parent never makes
 * it longer again. */
static void
cut_by_children(void)
{
    struct file file = file_new(8);
    pthread_t thread;

    CHECK_EQ(safemmap__zeros_prepare(), 0);
    CHECK_EQ(pthread_create(&thread, NULL, fork_again_and_again, NULL), 0);
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        uint64_t token = map_over(&file, 0, 1);

        CHECK_EQ(safemmap_withdraw(token), 0);
        CHECK(!is_there(&file, 0));
    }
    CHECK_EQ(pthread_join(thread, NULL), 0);
}

/* A sandboxed one has the parent's source and nothing else: its zeros stay. */
static void
child_without_mmap(void)
{
    struct file file = file_new(8);
    uint64_t token = 1;
    int status;
    pid_t child;

    if (SANITIZED)
        skip("a sanitizer needs mmap");
    CHECK_EQ(safemmap__zeros_prepare(), 0);
    CHECK_CALL(child = fork());
    if (child == 0) {
        forbid_mmap();
        CHECK_EQ(map_zeros((uintptr_t)file.map, 2, PROT_READ, &token), 0);
        check_zeros(&file, 0, 2);
        CHECK_EQ(token, 0);
        exit(0);
    }
    CHECK_CALL(waitpid(child, &status, 0));
    CHECK_EQ(status, 0);
    check_goes(&file);
}

/* ---- Threads ----------------------------------------------------------- */

static void *
withdraw_all(void *unused)
{
    (void)unused;
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
        sigset_t mask = safemmap__hold_pages();
        uint64_t token = safemmap__zeros_newest();

        safemmap__release_pages(&mask);
        CHECK_EQ(safemmap_withdraw(token), 0);
    }
    return NULL;
}

static void *
map_again_and_again(void *target)
{
    uint64_t last = UINT64_MAX, token;

    for (int i = 0; i < SCALED(20000); i++) {
        CHECK_EQ(map_zeros((uintptr_t)target, 1 + (size_t)i % 3, PROT_READ, &token),
                 0);
        CHECK(token < last);
        last = token;
    }
    return NULL;
}

static void
threads(void)
{
    struct file file = file_new(16);
    pthread_t thread[3];

    CHECK_EQ(safemmap__zeros_prepare(), 0);
    map_over(&file, 0, 1);
    CHECK_EQ(pthread_create(&thread[0], NULL, withdraw_all, NULL), 0);
    for (size_t i = 1; i < 3; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, map_again_and_again,
                                file.map + 8 * (i - 1) * PAGE),
                 0);
    for (size_t i = 1; i < 3; i++)
        CHECK_EQ(pthread_join(thread[i], NULL), 0);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    CHECK_EQ(pthread_join(thread[0], NULL), 0);
}

TEST_MAIN(TEST(withdrawn), TEST(lasting), TEST(refused), TEST(small_files),
          TEST(far_from_the_source), TEST(emptied), TEST(read_only), TEST(closed),
          TEST(child_has_its_own), TEST(cut_by_children), TEST(child_without_mmap),
          TEST(threads))

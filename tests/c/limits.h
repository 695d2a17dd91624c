/* What a process can be left without by the time of a fault. */
#ifndef LIMITS_H
#define LIMITS_H

#include "harness.h"

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>

/* (A macro: C libraries do not agree on the type of a resource's number.) */
#define SET_LIMIT(resource, value) \
    CHECK_CALL(setrlimit(resource, &(const struct rlimit){value, value}))

static inline void
drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];

    memset(data, 0, sizeof(data));
    CHECK_CALL(syscall(SYS_capset, &header, data));
}

static inline void
install_filter(struct sock_filter *filter, size_t count)
{
    struct sock_fprog program = {(unsigned short)count, filter};

    CHECK_CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
        skip("needs seccomp");
}

/* From now on the call is answered with EPERM. */
static inline void
forbid(int call)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};

    install_filter(filter, COUNT_OF(filter));
}

/* From now on it is answered with that error where the lower half of the argument of
 * that number has one of two values. */
static inline void
deny(int call, unsigned argument, unsigned value, unsigned other, unsigned error)
{
    const unsigned low = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0 : 4;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                 (unsigned)offsetof(struct seccomp_data, args) + 8 * argument + low),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, other, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};

    install_filter(filter, COUNT_OF(filter));
}

/* Before Linux 6.11: PROCMAP_QUERY. */
static inline void
without_query(void)
{
    const unsigned query = _IOC(_IOC_READ | _IOC_WRITE, 'f', 17, 104);

    deny(SYS_ioctl, 1, query, query, ENOTTY);
}

static inline void *
answer_calls(void *listener)
{
    for (int count = 1;; count++) {
        struct seccomp_notif call;
        struct seccomp_notif_resp answer;

        memset(&call, 0, sizeof(call));
        CHECK_CALL(
            syscall(SYS_ioctl, *(int *)listener, SECCOMP_IOCTL_NOTIF_RECV, &call));
        answer = (struct seccomp_notif_resp){.id = call.id};
        if (count == 2)
            answer.error = -EIO;
        else
            answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
        CHECK_CALL(
            syscall(SYS_ioctl, *(int *)listener, SECCOMP_IOCTL_NOTIF_SEND, &answer));
    }
}

/* From now on the second of this thread's calls is answered with EIO. False: the
 * kernel has no such filters. */
static inline bool
refuse_second(int call)
{
    static int listener = -1;
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
    struct sock_fprog program = {COUNT_OF(filter), filter};
    pthread_t thread;

    CHECK_CALL(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                            SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (listener < 0)
        return false;
    CHECK_EQ(pthread_create(&thread, NULL, answer_calls, &listener), 0);
    return true;
}

static inline void
limit_data(void)
{
    SET_LIMIT(RLIMIT_DATA, 0);
}

static inline void
limit_locked_memory(void)
{
    if (mlockall(MCL_FUTURE) < 0)
        skip("needs the right to lock memory");
    drop_capabilities();
    SET_LIMIT(RLIMIT_MEMLOCK, 0);
}

/* What is mapped already is locked too. */
static inline void
lock_all_memory(void)
{
    if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
        skip("needs the right to lock memory");
    drop_capabilities();
    SET_LIMIT(RLIMIT_MEMLOCK, 0);
}

static inline void
forbid_mmap(void)
{
    forbid(SYS_mmap);
}

static inline void
forbid_mremap(void)
{
    forbid(SYS_mremap);
}

/* What is in use, and hardly more. */
static inline void
limit_address_space(void)
{
    unsigned long pages;
    FILE *statm = fopen("/proc/self/statm", "re");

    CHECK(statm != NULL && fscanf(statm, "%lu", &pages) == 1);
    fclose(statm);
    SET_LIMIT(RLIMIT_AS, (pages + 1) * PAGE);
}

static inline void
limit_files(void)
{
    SET_LIMIT(RLIMIT_NOFILE, 0);
}

static inline void
limit_file_size(void)
{
    SET_LIMIT(RLIMIT_FSIZE, 0);
}

static inline void
close_all(void)
{
    for (int fd = 3; fd < 256; fd++)
        close(fd);
}

/* The memory file's number is another file's. */
static inline void
reopen_all(void)
{
    int fd;

    close_all();
    do
        CHECK_CALL(fd = memfd_create("other", 0));
    while (fd < 64);
}

static const struct {
    const char *name;
    void (*set)(void);
} limits[] = {
    {"none", NULL},
    {"RLIMIT_DATA", limit_data},
    {"RLIMIT_MEMLOCK", limit_locked_memory},
    {"RLIMIT_MEMLOCK, all locked", lock_all_memory},
    {"no mmap", forbid_mmap},
    {"no mremap", forbid_mremap},
    {"RLIMIT_AS", limit_address_space},
    {"RLIMIT_NOFILE", limit_files},
    {"RLIMIT_FSIZE", limit_file_size},
    {"all closed", close_all},
    {"all closed, and others opened", reopen_all},
};

#endif

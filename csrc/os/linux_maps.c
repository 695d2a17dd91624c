/* Runs inside the signal and outside: the mappings of the process, as Linux lists
 * them.
 */
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* ---- The list of mappings ----------------------------------------------- */

/* (The list of the first thread is empty once that has ended, while others go on.) */
int
safemmap__os_maps_open(pid_t *ret_thread)
{
    int fd = safemmap__os_open("/proc/self/maps");
    char byte;

    *ret_thread = 0;
    if (fd < 0 || safemmap__os_read_file(fd, &byte, 1) != 0)
        return fd;
    safemmap__os_close(fd);
    *ret_thread = safemmap__os_thread();
    return safemmap__os_open("/proc/thread-self/maps");
}

/* From Linux 6.11 on one mapping can be asked for. */
struct query {
    uint64_t size, flags, address;
    uint64_t start, end, protection, page_size, offset, inode;
    uint32_t major, minor;
    uint32_t path_size, build_id_size;
    uint64_t path, build_id;
};
#define QUERY _IOWR('f', 17, struct query)
enum {
    QUERY_READABLE = 1,
    QUERY_WRITABLE = 2,
    QUERY_EXECUTABLE = 4,
    QUERY_SHARED = 8,
    QUERY_OR_NEXT = 16,
    QUERY_OF_FILE = 32
};

static int
query(int fd, uintptr_t address, uint64_t flags, struct safemmap__mapping *ret,
      char *ret_path)
{
    struct query query = {.size = sizeof(query),
                          .flags = flags,
                          .address = address,
                          .path_size = ret_path != NULL ? SAFEMMAP__PATH : 0,
                          .path = (uintptr_t)ret_path};

    /* (Not ioctl(2), whose request is an int in musl, and another type in glibc.) */
    if (syscall(SYS_ioctl, fd, QUERY, &query) < 0)
        return -errno;
    *ret = (struct safemmap__mapping){
        .start = (uintptr_t)query.start,
        .end = (uintptr_t)query.end,
        .offset = query.offset,
        .device = makedev(query.major, query.minor),
        .inode = (ino_t)query.inode,
        .page_size = (size_t)query.page_size,
        .protection = ((query.protection & QUERY_READABLE) != 0 ? PROT_READ : 0) |
                      ((query.protection & QUERY_WRITABLE) != 0 ? PROT_WRITE : 0) |
                      ((query.protection & QUERY_EXECUTABLE) != 0 ? PROT_EXEC : 0)};
    if (ret_path != NULL && query.path_size == 0)
        ret_path[0] = '\0';
    return 0;
}

/* ---- The same as text --------------------------------------------------- */

struct text {
    int fd;
    int error; /* a negative errno: the end was not reached */
    char buffer[512];
    size_t at, size;
};

static int
next_byte(struct text *text)
{
    if (text->at == text->size) {
        ssize_t size =
            safemmap__os_read_file(text->fd, text->buffer, sizeof(text->buffer));

        if (size < 0)
            text->error = -errno;
        if (size <= 0)
            return -1;
        text->at = 0;
        text->size = (size_t)size;
    }
    return (unsigned char)text->buffer[text->at++];
}

/* A number, and the byte behind it. */
static uint64_t
number(struct text *text, unsigned base, int *ret_behind)
{
    uint64_t value = 0;

    for (;;) {
        int byte = next_byte(text);
        unsigned digit = byte >= '0' && byte <= '9'   ? (unsigned)byte - '0'
                         : byte >= 'a' && byte <= 'f' ? (unsigned)byte - 'a' + 10
                                                      : 16;

        if (digit >= base) {
            *ret_behind = byte;
            return value;
        }
        value = value * base + digit;
    }
}

/* What is too long is cut off. The kernel writes a line feed as \012. */
static void
path(struct text *text, char *ret_path)
{
    size_t size = 0;
    int byte;

    do
        byte = next_byte(text);
    while (byte == ' ');
    for (; byte >= 0 && byte != '\n'; byte = next_byte(text)) {
        if (ret_path == NULL || size == SAFEMMAP__PATH - 1)
            continue;
        ret_path[size++] = (char)byte;
        if (size >= 4 && memcmp(ret_path + size - 4, "\\012", 4) == 0) {
            size -= 4;
            ret_path[size++] = '\n';
        }
    }
    if (ret_path != NULL)
        ret_path[size] = '\0';
}

/* False: that was the last one, or it could not be read. */
static bool
line(struct text *text, struct safemmap__mapping *ret, char *ret_path)
{
    unsigned major, minor;
    int behind;

    *ret = (struct safemmap__mapping){.start = (uintptr_t)number(text, 16, &behind)};
    if (behind != '-')
        return false;
    ret->end = (uintptr_t)number(text, 16, &behind);
    ret->protection = (next_byte(text) == 'r' ? PROT_READ : 0);
    ret->protection |= (next_byte(text) == 'w' ? PROT_WRITE : 0);
    ret->protection |= (next_byte(text) == 'x' ? PROT_EXEC : 0);
    next_byte(text); /* shared or private */
    next_byte(text);
    ret->offset = number(text, 16, &behind);
    major = (unsigned)number(text, 16, &behind);
    minor = (unsigned)number(text, 16, &behind);
    ret->device = makedev(major, minor);
    ret->inode = (ino_t)number(text, 10, &behind);
    if (behind == '\n') {
        if (ret_path != NULL)
            ret_path[0] = '\0';
    } else
        path(text, ret_path);
    return text->error == 0;
}

enum { HUGETLBFS = 0x958458f6 };

/* (The text does not tell it.) */
static size_t
page_size_of(const char *file)
{
    struct statfs status;

    return statfs(file, &status) == 0 && (unsigned)status.f_type == HUGETLBFS
               ? (size_t)status.f_bsize
               : safemmap__page_size;
}

/* A line, without its end, cut off where there is no room. False: there is none. */
static bool
copy_line(struct text *text, char *ret_line, size_t room)
{
    size_t size = 0;
    int byte = next_byte(text);

    if (byte < 0)
        return false;
    for (; byte >= 0 && byte != '\n'; byte = next_byte(text))
        if (size < room - 1)
            ret_line[size++] = (char)byte;
    ret_line[size] = '\0';
    return true;
}

/* The same of a mapping whose file may have no name any more. Not in the handler.
 * Slow: the kernel walks the pages of all mappings that come before. */
static size_t
page_size_at(uintptr_t start)
{
    struct text text = {.fd = safemmap__os_open("/proc/thread-self/smaps")};
    size_t size = safemmap__page_size, kilobytes;
    char of_text[64], *behind;
    bool found = false;

    if (text.fd < 0)
        return size;
    while (copy_line(&text, of_text, sizeof(of_text))) {
        uintptr_t address = strtoull(of_text, &behind, 16);

        if (*behind == '-') { /* the line that the mapping has in maps, too */
            if (found)
                break;
            found = address == start;
        } else if (found && sscanf(of_text, "KernelPageSize: %zu", &kilobytes) == 1)
            size = kilobytes * 1024;
    }
    safemmap__os_close(text.fd);
    return size;
}

static int
search_text(int fd, uintptr_t address, bool executable, struct safemmap__mapping *ret,
            char *ret_path)
{
    struct text text = {.fd = fd};

    if (lseek(fd, 0, SEEK_SET) < 0)
        return -errno;
    while (line(&text, ret, ret_path)) {
        if (ret->end <= address)
            continue;
        if (executable) {
            if ((ret->protection & PROT_EXEC) == 0 || ret->inode == 0)
                continue;
        } else if (ret->start > address)
            break;
        ret->page_size =
            ret_path == NULL ? safemmap__page_size : page_size_of(ret_path);
        return 0;
    }
    return text.error != 0 ? text.error : -ENOENT;
}

/* Smallest of the huge pages that a mapping can be made of. */
enum { HUGE = 1 << 16 };

static int
visit_text(int fd, uintptr_t start, uintptr_t end, char *path_buffer,
           safemmap__mapping_visitor *visit, void *context)
{
    struct text text = {.fd = fd};
    struct safemmap__mapping mapping;

    if (lseek(fd, 0, SEEK_SET) < 0)
        return -errno;
    while (line(&text, &mapping, path_buffer) && mapping.start < end) {
        if (mapping.end <= start)
            continue;
        mapping.page_size = (mapping.start | mapping.end | mapping.offset) % HUGE == 0
                                ? page_size_at(mapping.start)
                                : safemmap__page_size;
        visit(&mapping, path_buffer, context);
    }
    return text.error;
}

/* ---- Asking ------------------------------------------------------------- */

/* The kernel, or a sandbox, does not know the request, or its path does not fit into
 * the answer: it may have more than PATH_MAX bytes. */
static bool
is_unanswered(int error)
{
    return error < 0 && error != -ENOENT;
}

int
safemmap__os_mapping_at(int fd, uintptr_t address, struct safemmap__mapping *ret,
                        char *ret_path)
{
    int error = query(fd, address, 0, ret, ret_path);

    return is_unanswered(error) ? search_text(fd, address, false, ret, ret_path)
                                : error;
}

int
safemmap__os_next_executable(int fd, uintptr_t address, struct safemmap__mapping *ret)
{
    int error = query(fd, address, QUERY_EXECUTABLE | QUERY_OR_NEXT | QUERY_OF_FILE,
                      ret, NULL);

    return is_unanswered(error) ? search_text(fd, address, true, ret, NULL) : error;
}

int
safemmap__os_mappings_visit(int fd, uintptr_t start, uintptr_t end, char *path_buffer,
                            safemmap__mapping_visitor *visit, void *context)
{
    struct safemmap__mapping mapping;
    int error = 0;

    while (start < end &&
           (error = query(fd, start, QUERY_OR_NEXT, &mapping, path_buffer)) == 0 &&
           mapping.start < end) {
        visit(&mapping, path_buffer, context);
        start = mapping.end;
    }
    return is_unanswered(error)
               ? visit_text(fd, start, end, path_buffer, visit, context)
               : 0;
}

/* ---- The process as a whole --------------------------------------------- */

struct status {
    bool first_ended;    /* the first thread is a zombie */
    uint64_t threads;    /* with that one */
    uint64_t executable; /* KiB */
};

/* The number behind the name that the line begins with; else 0. */
static uint64_t
number_after(const char *name, const char *of_text)
{
    size_t length = strlen(name);
    uint64_t value = 0;

    if (strncmp(of_text, name, length) != 0)
        return 0;
    for (of_text += length; *of_text == ' ' || *of_text == '\t'; of_text++)
        continue;
    for (; *of_text >= '0' && *of_text <= '9'; of_text++)
        value = value * 10 + (uint64_t)(*of_text - '0');
    return value;
}

/* All 0 where there is no /proc. (Line by line: that of the groups may be longer than
 * a page.) */
static struct status
read_status(void)
{
    static const char ended[] = "State:\tZ";
    struct text text = {.fd = safemmap__os_open("/proc/self/status")};
    struct status status = {false, 0, 0};
    char of_text[32];

    if (text.fd < 0)
        return status;
    while (copy_line(&text, of_text, sizeof(of_text))) {
        status.first_ended |= strncmp(of_text, ended, sizeof(ended) - 1) == 0;
        status.threads += number_after("Threads:", of_text);
        status.executable +=
            number_after("VmExe:", of_text) + number_after("VmLib:", of_text);
    }
    safemmap__os_close(text.fd);
    return text.error == 0 ? status : (struct status){false, 0, 0};
}

bool
safemmap__os_is_only_thread(void)
{
    return read_status().threads == 1;
}

/* (The first thread counts as one while others go on.) */
bool
safemmap__os_is_last_thread(void)
{
    const struct status status = read_status();

    return status.first_ended && status.threads == 2;
}

uint64_t
safemmap__os_executable_size(void)
{
    return read_status().executable;
}

/* ---- One page ----------------------------------------------------------- */

bool
safemmap__os_is_ordinary(uintptr_t page, size_t page_size)
{
    return madvise((void *)page, page_size, MADV_DODUMP) == 0 || errno != EINVAL;
}

static enum safemmap__presence
populate(uintptr_t page, size_t page_size, int advice)
{
    if (madvise((void *)page, page_size, advice) == 0)
        return SAFEMMAP__PRESENT;
    if (errno == EFAULT || errno == EHWPOISON)
        return SAFEMMAP__LOST;
    /* EINVAL: before Linux 5.14 */
    return errno == EINVAL ? SAFEMMAP__UNCERTAIN : SAFEMMAP__PRESENT;
}

/* (Not populated where it cannot be read: on a disk with errors that was seen to wait
 * for ever.) */
enum safemmap__presence
safemmap__os_presence(uintptr_t page, size_t page_size, bool store)
{
    char byte;
    struct iovec to = {&byte, 1}, from = {(void *)page, 1};
    ssize_t done = safemmap__os_transfer(&to, 1, &from, 1);

    if (done == 0)
        return SAFEMMAP__LOST;
    if (store)
        return populate(page, page_size, MADV_POPULATE_WRITE);
    /* A sandbox may forbid the one, and not the other. */
    return done > 0 ? SAFEMMAP__PRESENT
                    : populate(page, page_size, MADV_POPULATE_READ);
}

/* ---- Its file ----------------------------------------------------------- */

/* Neither asks a server, nor has anything mounted: it could wait for ever. */
int
safemmap__os_file_of(const char *file, struct safemmap__file_status *ret)
{
    struct stat status;

#ifdef STATX_SIZE
    struct statx all;

    /* (glibc has the function from 2.28 on.) */
    if (syscall(SYS_statx, AT_FDCWD, file, AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT,
                STATX_TYPE | STATX_SIZE | STATX_INO, &all) == 0) {
        *ret = (struct safemmap__file_status){
            .device = makedev(all.stx_dev_major, all.stx_dev_minor),
            .inode = (ino_t)all.stx_ino,
            .size = (int64_t)all.stx_size,
            .regular = S_ISREG(all.stx_mode)};
        return 0;
    }
    if (errno != ENOSYS)
        return -errno;
#endif
    if (fstatat(AT_FDCWD, file, &status, AT_NO_AUTOMOUNT) < 0)
        return -errno;
    *ret = (struct safemmap__file_status){.device = status.st_dev,
                                          .inode = status.st_ino,
                                          .size = status.st_size,
                                          .regular = S_ISREG(status.st_mode)};
    return 0;
}

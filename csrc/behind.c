/* Runs only outside the signal: tells which files are mapped in a range. */
#include "behind.h"
#include "mappings.h"

#include <pthread.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards the list */
static struct safemmap__mappings list = {.fd = -1};

void
safemmap__behind_lock(void)
{
    pthread_mutex_lock(&lock);
}

void
safemmap__behind_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

void
safemmap__behind_after_fork(void)
{
    safemmap__mappings_close(&list);
}

/* Of the memory file, whose pages replace lost ones. */
static bool
is_overlay(const char *path)
{
    static const char start[] = "/memfd:safemmap zeros";

    return strncmp(path, start, sizeof(start) - 1) == 0;
}

/* safemmap__mapping_visitor */
static void
sum_up(const struct safemmap__mapping *mapping, const char *path, void *context)
{
    struct safemmap_files *files = context;

    /* (A filesystem may have a file of number 0.) */
    if (mapping->inode == 0 && mapping->device == 0)
        return;
    files->protection |= mapping->protection;
    if (files->page_size < mapping->page_size)
        files->page_size = mapping->page_size;
    if (files->path[0] == '\0' && !is_overlay(path))
        strcpy(files->path, path);
}

int
safemmap_files_behind(uintptr_t start, uintptr_t end,
                      struct safemmap_files *ret_files)
{
    char path[SAFEMMAP__PATH];
    int error;

    ret_files->protection = 0;
    ret_files->page_size = 0;
    ret_files->path[0] = '\0';
    safemmap__behind_lock();
    error = safemmap__mappings_open(&list);
    if (error == 0)
        error =
            safemmap__os_mappings_visit(list.fd, start, end, path, sum_up, ret_files);
    safemmap__behind_unlock();
    return error;
}

/* Runs inside and outside the signal: the state that the handler reads, and the
 * look-up of regions, which takes no lock and never waits.
 *
 * What handlers look up is never changed in place: a writer publishes a new
 * version and takes the old one back once safemmap__readers_wait() says that no
 * handler can hold it.
 */
#include "internal.h"

#include <sched.h>
#include <unistd.h>

SAFEMMAP__TLS volatile struct safemmap__thread safemmap__self;
struct safemmap__chain *safemmap__chain;
struct safemmap_counts safemmap__counts;
struct safemmap__directory *safemmap__directory;
uintptr_t safemmap__page_size;

__attribute__((constructor)) static void
read_page_size(void)
{
    safemmap__page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
}

/* Handlers inside, by the parity of the epoch in which they entered. Two
 * counters, so that a writer waits for those which were there before it, and
 * not for a storm of new ones. */
static unsigned epoch;
static unsigned readers[2];

unsigned
safemmap__reader_enter(void)
{
    unsigned entered = __atomic_load_n(&epoch, __ATOMIC_SEQ_CST) & 1u;

    /* Sequentially consistent: what is looked up afterwards is at least as new
     * as what a writer that did not see this count had published. */
    __atomic_fetch_add(&readers[entered], 1, __ATOMIC_SEQ_CST);
    return entered;
}

void
safemmap__reader_leave(unsigned entered)
{
    __atomic_fetch_sub(&readers[entered], 1, __ATOMIC_RELEASE);
}

static void
wait_for(unsigned parity)
{
    while (__atomic_load_n(&readers[parity], __ATOMIC_SEQ_CST) != 0)
        sched_yield();
}

void
safemmap__readers_wait(void)
{
    unsigned current = __atomic_load_n(&epoch, __ATOMIC_SEQ_CST) & 1u;

    wait_for(current ^ 1u); /* those who read the epoch before it last changed */
    __atomic_fetch_add(&epoch, 1, __ATOMIC_SEQ_CST);
    wait_for(current);
}

void
safemmap__readers_reset(void)
{
    __atomic_store_n(&readers[0], 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&readers[1], 0, __ATOMIC_SEQ_CST);
}

static struct safemmap__leaf *
leaf_at(struct safemmap__directory *directory, size_t index)
{
    return __atomic_load_n(&directory->entry[index].leaf, __ATOMIC_SEQ_CST);
}

size_t
safemmap__leaf_for(const struct safemmap__directory *directory, uintptr_t address)
{
    size_t low = 0, high = directory->count;

    /* The first leaf begins at 0, so that one always qualifies. */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;

        if (directory->entry[middle].first <= address)
            low = middle;
        else
            high = middle;
    }
    return low;
}

struct safemmap_region *
safemmap__region_find(uintptr_t address)
{
    struct safemmap__directory *directory =
        __atomic_load_n(&safemmap__directory, __ATOMIC_SEQ_CST);
    struct safemmap__leaf *leaf;
    size_t index, low, high;

    if (directory == NULL)
        return NULL;
    index = safemmap__leaf_for(directory, address);
    leaf = leaf_at(directory, index);
    for (low = 0, high = leaf->count; low < high;) {
        size_t middle = low + (high - low) / 2;

        if (leaf->entry[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0) {
        /* It can still be inside the last region of the leaf before; only the
         * first leaf is ever empty. */
        if (index == 0)
            return NULL;
        leaf = leaf_at(directory, index - 1);
        low = leaf->count;
        if (low == 0)
            return NULL;
    }
    return address < leaf->entry[low - 1].end ? leaf->entry[low - 1].region : NULL;
}

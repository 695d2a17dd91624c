/* Runs inside and outside the signal: the state that the handler reads, and the
 * look-up of regions, which takes no lock and never waits.
 *
 * What handlers look up is never changed in place: a writer publishes a new
 * version and takes the old one back once safemmap__readers_wait() says that no
 * handler can hold it.
 */
#include "internal.h"

#include <errno.h>

SAFEMMAP__TLS volatile struct safemmap__thread safemmap__self;
unsigned safemmap__check_below = SAFEMMAP__CHECK_WHEN_DUE;
struct safemmap__chain *safemmap__chain;
bool safemmap__lacked_siginfo;
struct safemmap_counts safemmap__counts;
struct safemmap__directory *safemmap__directory;
int safemmap__fork_error = -ENOSYS;
const struct safemmap__service *safemmap__host;

void
safemmap__count(uint64_t *counter)
{
    __atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

int
safemmap__link_for(const struct safemmap__chain *chain, int entry)
{
    if (chain == NULL)
        return -1;
    if (entry >= chain->count)
        entry = chain->count - 1;
    while (entry >= 0 && chain->link[entry].moved)
        entry--;
    return entry;
}

/* ---- The copies that this one serves ----------------------------------- */

struct safemmap__member safemmap__own = {.mailbox = {.fd = -1},
                                         .wants = SAFEMMAP__HANDLER};

void
safemmap__member_add(struct safemmap__member *member)
{
    struct safemmap__member *last = &safemmap__own, *next = NULL;

    /* (Some C libraries have several threads load libraries at once.) */
    while (!__atomic_compare_exchange_n(&last->next, &next, member, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
        last = next;
        next = NULL;
    }
}

struct safemmap__member *
safemmap__member_next(const struct safemmap__member *member)
{
    return __atomic_load_n(&member->next, __ATOMIC_SEQ_CST);
}

void
safemmap__want(struct safemmap__member *member, enum safemmap__want what)
{
    __atomic_fetch_or(&member->wants, what, __ATOMIC_SEQ_CST);
}

void
safemmap__want_no_more(struct safemmap__member *member, enum safemmap__want what)
{
    __atomic_fetch_and(&member->wants, ~(unsigned)what, __ATOMIC_SEQ_CST);
}

bool
safemmap__wants(const struct safemmap__member *member, enum safemmap__want what)
{
    return (__atomic_load_n(&member->wants, __ATOMIC_SEQ_CST) & what) != 0;
}

bool
safemmap__is_wanted(enum safemmap__want what, const struct safemmap__member *except)
{
    const struct safemmap__member *member = &safemmap__own;

    while (member != NULL && (member == except || !safemmap__wants(member, what)))
        member = safemmap__member_next(member);
    return member != NULL;
}

/* ---- Readers ----------------------------------------------------------- */

/* Handlers inside, by the parity of the epoch in which they entered. Two
 * counters, so that a writer waits for those which were there before it, and
 * not for a storm of new ones. */
static unsigned epoch;
static unsigned readers[2];
/* Whether a writer waits. */
static unsigned awaited;

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
    if (__atomic_sub_fetch(&readers[entered], 1, __ATOMIC_SEQ_CST) == 0 &&
        __atomic_load_n(&awaited, __ATOMIC_SEQ_CST) != 0)
        safemmap__os_wake_all(&readers[entered]);
}

struct safemmap__reading
safemmap__start_reading(void)
{
    struct safemmap__reading reading;

    safemmap__os_block_signals(&reading.mask);
    reading.epoch = safemmap__reader_enter();
    return reading;
}

void
safemmap__stop_reading(const struct safemmap__reading *reading)
{
    safemmap__reader_leave(reading->epoch);
    safemmap__os_restore_signals(&reading->mask);
}

static void
wait_for(unsigned parity)
{
    unsigned inside;

    while ((inside = __atomic_load_n(&readers[parity], __ATOMIC_SEQ_CST)) != 0)
        safemmap__os_sleep_while(&readers[parity], inside);
}

void
safemmap__readers_wait(void)
{
    unsigned current = __atomic_load_n(&epoch, __ATOMIC_SEQ_CST) & 1u;

    __atomic_store_n(&awaited, 1, __ATOMIC_SEQ_CST);
    wait_for(current ^ 1u); /* those who read the epoch before it last changed */
    __atomic_fetch_add(&epoch, 1, __ATOMIC_SEQ_CST);
    wait_for(current);
    __atomic_store_n(&awaited, 0, __ATOMIC_SEQ_CST);
}

void
safemmap__readers_reset(void)
{
    __atomic_store_n(&readers[0], 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&readers[1], 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&awaited, 0, __ATOMIC_SEQ_CST);
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

void
safemmap__regions_visit(uintptr_t start, uintptr_t end, safemmap__visitor *visit,
                        void *context)
{
    struct safemmap__directory *directory =
        __atomic_load_n(&safemmap__directory, __ATOMIC_SEQ_CST);
    size_t index;

    if (directory == NULL)
        return;
    for (index = safemmap__leaf_for(directory, end - 1) + 1;
         index-- > 0 &&
         __atomic_load_n(&directory->entry[index].reach, __ATOMIC_SEQ_CST) > start;) {
        if (__atomic_load_n(&directory->entry[index].end, __ATOMIC_SEQ_CST) <= start)
            continue;
        const struct safemmap__leaf *leaf = leaf_at(directory, index);
        for (size_t i = leaf->count; i-- > 0;)
            if (leaf->entry[i].start < end && leaf->entry[i].end > start)
                visit(leaf->entry[i].region, context);
    }
}

/* Short reads without a lock, for builds of the interpreter without a GIL.
 *
 * Methods take a critical section on their mapping (_free_threading.h), so that
 * threads which use one mapping take turns. A short read takes none: it pins the
 * mapping, and whoever is about to change where or how that is mapped waits until
 * nobody has it pinned.
 *
 * Each thread has a pin of its own, in a cache line that no other thread writes to:
 *
 *     a read                               a change, in a section on the mapping
 *     1. writes the mapping into its pin   3. counts itself in `changes`
 *     2. reads `changes`: if it is 0       4. reads the pins of all threads, and
 * waits the read goes on, else it takes      while one holds the mapping its pin
 * back, and is made in a    ... section
 *
 * The four are sequentially consistent. So if 2 comes before 3, then 1 before 4: the
 * change finds the pin. A pin is taken back with release and found gone with acquire,
 * and `changes` likewise: a read is over before the change that has waited for it
 * begins, and one that comes after the change finds it complete.
 *
 * Nobody waits for ever: a thread that has a pin calls nothing of Python's, so that
 * it neither detaches from the interpreter (which other threads stop then) nor runs
 * code that begins a change. What may do so, to allocate a result or to raise an
 * exception, comes before or after. (A fault ends the core's operation, which returns
 * to take the pin back.) A change waits attached; it holds nobody up whom the pinned
 * thread would not hold up itself.
 *
 * A thread that ends gives its pin back, to be another's. In a forked child those of
 * the other threads hold nothing.
 *
 * With the GIL nobody reads while a mapping changes, and all of this is nothing.
 */
#ifndef SAFEMMAP_PIN_H
#define SAFEMMAP_PIN_H

#include <Python.h>
#include <stdbool.h>

#ifdef Py_GIL_DISABLED

struct safemmap_pin {
    PyObject *mapping; /* or NULL */
    struct safemmap_pin *next;
    bool owned;
} __attribute__((aligned(128))); /* processors fetch cache lines in pairs */

/* Of this thread; NULL before its first read. (On musl no library that is loaded late
 * can have the model.) */
#ifdef __GLIBC__
extern __thread struct safemmap_pin *safemmap__pin
    __attribute__((tls_model("initial-exec")));
#else
extern __thread struct safemmap_pin *safemmap__pin;
#endif

/* Gives the thread one: NULL, where that cannot be. */
struct safemmap_pin *safemmap__own_pin(void);

static inline void
safemmap_unpin(void)
{
    __atomic_store_n(&safemmap__pin->mapping, NULL, __ATOMIC_RELEASE);
}

/* Whether the mapping is pinned now. The caller has a reference to it. */
static inline bool
safemmap_pin(PyObject *mapping, const int *changes)
{
    struct safemmap_pin *pin = safemmap__pin;

    if (__builtin_expect(pin == NULL, false) && (pin = safemmap__own_pin()) == NULL)
        return false;
    __atomic_store_n(&pin->mapping, mapping, __ATOMIC_SEQ_CST);
    if (__builtin_expect(__atomic_load_n(changes, __ATOMIC_SEQ_CST) == 0, true))
        return true;
    safemmap_unpin();
    return false;
}

static inline void
safemmap_change_over(int **changes)
{
    __atomic_fetch_sub(*changes, 1, __ATOMIC_RELEASE);
}

/* A local variable: the change is over as the function returns, by an exception too.
 * Nothing may return before it has begun. */
#define safemmap_change \
    __attribute__((cleanup(safemmap_change_over))) safemmap__change
typedef int *safemmap__change;

/* From here on the mapping is read in sections alone. */
void safemmap_begin(safemmap__change *change, PyObject *mapping, int *changes);

#else

typedef char safemmap_change;

static inline bool
safemmap_pin(PyObject *mapping, const int *changes)
{
    (void)mapping;
    (void)changes;
    return false;
}

static inline void
safemmap_unpin(void)
{
}

static inline void
safemmap_begin(safemmap_change *change, PyObject *mapping, int *changes)
{
    (void)change;
    (void)mapping;
    (void)changes;
}

#endif

#endif

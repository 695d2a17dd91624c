/* What the GIL does elsewhere, for builds of the interpreter without one.
 *
 * A method takes a critical section on its object, in which only a thread that waits
 * for something gives the object up: just where it would give up the GIL. So what
 * holds with the GIL holds there, too. (Short reads take none, see _pin.h.) Builds
 * with the GIL have none of this.
 */
#ifndef SAFEMMAP_FREE_THREADING_H
#define SAFEMMAP_FREE_THREADING_H

#include <Python.h>
#include <stdbool.h>

#ifdef Py_GIL_DISABLED

#define SAFEMMAP_MAY_LACK_GIL 1

static inline void
safemmap_leave(PyCriticalSection *section)
{
    PyCriticalSection_End(section);
}

/* A local variable: its section ends as the function returns, by an exception too.
 * Nothing may return before the section is entered. */
#define safemmap_section __attribute__((cleanup(safemmap_leave))) PyCriticalSection

static inline void
safemmap_enter(PyCriticalSection *section, PyObject *object)
{
    PyCriticalSection_Begin(section, object);
}

static inline void
safemmap_add(Py_ssize_t *count, Py_ssize_t change)
{
    __atomic_fetch_add(count, change, __ATOMIC_RELAXED);
}

/* A number or a pointer that is read outside sections, too. */
#define safemmap_get(place) __atomic_load_n(place, __ATOMIC_RELAXED)
/* What was got there; nobody has changed it since, where there is a GIL. */
#define safemmap_got(place, value) (value)
#define safemmap_set(place, value) __atomic_store_n(place, value, __ATOMIC_RELAXED)

/* Moves on from `at`, unless another thread has done so. */
static inline bool
safemmap_advance(Py_ssize_t *index, Py_ssize_t at)
{
    return __atomic_compare_exchange_n(index, &at, at + 1, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED);
}

#else

#define SAFEMMAP_MAY_LACK_GIL 0

typedef char safemmap_section;

static inline void
safemmap_enter(safemmap_section *section, PyObject *object)
{
    (void)section;
    (void)object;
}

static inline void
safemmap_add(Py_ssize_t *count, Py_ssize_t change)
{
    *count += change;
}

#define safemmap_get(place) (*(place))
#define safemmap_got(place, value) (*(place))
#define safemmap_set(place, value) ((void)(*(place) = (value)))

static inline bool
safemmap_advance(Py_ssize_t *index, Py_ssize_t at)
{
    (void)at;
    ++*index;
    return true;
}

#endif

/* Calls `function` once, while no other thread of the interpreter runs, begins or
 * ends, and returns what it returns. It must not create or destroy an object, nor
 * call what looks for a thread or waits for one. */
int safemmap_alone(int (*function)(void *), void *argument);

#endif

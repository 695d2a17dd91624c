/* What the GIL does elsewhere, for builds of the interpreter without one.
 *
 * A method takes a critical section on its object, in which only a thread that waits
 * for something gives the object up: just where it would give up the GIL. So what
 * holds with the GIL holds there, too. Builds with the GIL have none of this.
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

/* Likewise two sections, on an object and on one that it refers to, which is kept.
 * Within the inner one the outer may have been given up. */
struct safemmap__sections {
    PyCriticalSection outer, inner;
    PyObject *kept;
    bool is_inner;
};

static inline void
safemmap_leave_inner(struct safemmap__sections *sections)
{
    if (sections->is_inner)
        PyCriticalSection_End(&sections->inner);
    sections->is_inner = false;
}

static inline void
safemmap_leave_both(struct safemmap__sections *sections)
{
    safemmap_leave_inner(sections);
    PyCriticalSection_End(&sections->outer);
    Py_DECREF(sections->kept);
}

#define safemmap_sections \
    __attribute__((cleanup(safemmap_leave_both))) struct safemmap__sections

static inline void
safemmap_enter_outer(struct safemmap__sections *sections, PyObject *object)
{
    PyCriticalSection_Begin(&sections->outer, object);
}

static inline void
safemmap_enter_inner(struct safemmap__sections *sections, PyObject *referent)
{
    sections->kept = Py_NewRef(referent);
    sections->is_inner = true;
    PyCriticalSection_Begin(&sections->inner, referent);
}

static inline void
safemmap_add(Py_ssize_t *count, Py_ssize_t change)
{
    __atomic_fetch_add(count, change, __ATOMIC_RELAXED);
}

#else

#define SAFEMMAP_MAY_LACK_GIL 0

typedef char safemmap_section, safemmap_sections;

static inline void
safemmap_enter(safemmap_section *section, PyObject *object)
{
    (void)section;
    (void)object;
}

static inline void
safemmap_enter_outer(safemmap_sections *sections, PyObject *object)
{
    (void)sections;
    (void)object;
}

static inline void
safemmap_enter_inner(safemmap_sections *sections, PyObject *referent)
{
    (void)sections;
    (void)referent;
}

static inline void
safemmap_leave_inner(safemmap_sections *sections)
{
    (void)sections;
}

static inline void
safemmap_add(Py_ssize_t *count, Py_ssize_t change)
{
    *count += change;
}

#endif

/* Calls `function` once, while no other thread of the interpreter runs, begins or
 * ends, and returns what it returns. It must not create or destroy an object, nor
 * call what looks for a thread or waits for one. */
int safemmap_alone(int (*function)(void *), void *argument);

#endif

/* What the GIL does elsewhere, for builds of the interpreter without one. */
#include "_free_threading.h"

#include <stdbool.h>

#ifdef Py_GIL_DISABLED

struct call {
    int (*function)(void *);
    void *argument;
    int result;
    bool made;
};

/* gcvisitobjects_t */
static int
make_call(PyObject *object, void *context)
{
    struct call *call = context;

    (void)object;
    if (!call->made)
        call->result = call->function(call->argument);
    call->made = true;
    return 0; /* no more objects */
}

/* No other public function stops all threads. This one keeps the list of threads, and
 * the memory of all objects, locked besides. */
int
safemmap_alone(int (*function)(void *), void *argument)
{
    struct call call = {function, argument, -1, false};
    PyObject *object = PyList_New(0); /* gc.freeze() may have hidden all others */

    PyUnstable_GC_VisitObjects(make_call, &call);
    Py_XDECREF(object);
    return call.result;
}

#else

int
safemmap_alone(int (*function)(void *), void *argument)
{
    return function(argument);
}

#endif

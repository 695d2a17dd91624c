/* Calls back when a thread raises or returns, while that is asked for. */
#include "_monitoring.h"

#include <stdbool.h>

static safemmap_monitor *monitor;

#if PY_VERSION_HEX >= 0x030C0000

static PyObject *raise_function, *return_function;
static int started;
static int tool = -1; /* our number while anything is in place */

static PyObject *
on_raise(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    (void)module;
    if (count == 3 && monitor(arguments[2]) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *
on_return(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    (void)module;
    (void)arguments;
    (void)count;
    if (monitor(NULL) < 0)
        return NULL;
    Py_RETURN_NONE;
}

int
safemmap_monitoring_setup(safemmap_monitor *function)
{
    static PyMethodDef on_raise_method = {
        "on_raise", (PyCFunction)(void (*)(void))on_raise, METH_FASTCALL, NULL};
    static PyMethodDef on_return_method = {
        "on_return", (PyCFunction)(void (*)(void))on_return, METH_FASTCALL, NULL};

    monitor = function;
    if (raise_function == NULL)
        raise_function = PyCFunction_New(&on_raise_method, NULL);
    if (return_function == NULL)
        return_function = PyCFunction_New(&on_return_method, NULL);
    return raise_function == NULL || return_function == NULL ? -1 : 0;
}

/* Calls a function of sys.monitoring; false if that raises. */
static bool
call(const char *name, const char *format, ...)
{
    PyObject *monitoring = PySys_GetObject("monitoring"), *function,
             *arguments = NULL;
    PyObject *result = NULL;
    bool done;
    va_list values;

    function = monitoring == NULL ? NULL : PyObject_GetAttrString(monitoring, name);
    va_start(values, format);
    if (function != NULL)
        arguments = Py_VaBuildValue(format, values);
    va_end(values);
    if (arguments != NULL)
        result = PyObject_CallObject(function, arguments);
    done = result != NULL;
    if (!done)
        PyErr_Clear();
    Py_XDECREF(function);
    Py_XDECREF(arguments);
    Py_XDECREF(result);
    return done;
}

static long
event(const char *name)
{
    PyObject *monitoring = PySys_GetObject("monitoring"), *events = NULL;
    PyObject *number = NULL;
    long value = 0;

    if (monitoring != NULL)
        events = PyObject_GetAttrString(monitoring, "events");
    if (events != NULL)
        number = PyObject_GetAttrString(events, name);
    if (number != NULL)
        value = PyLong_AsLong(number);
    if (PyErr_Occurred())
        PyErr_Clear();
    Py_XDECREF(events);
    Py_XDECREF(number);
    return value;
}

/* One of the tool numbers that no known tool uses. */
static bool
get_tool(void)
{
    for (int number = 4; tool < 0 && number >= 3; number--)
        if (call("use_tool_id", "(is)", number, "safemmap"))
            tool = number;
    return tool >= 0;
}

PyObject *
safemmap_monitoring_start(PyThreadState *thread)
{
    long returns = event("PY_RETURN"), yields = event("PY_YIELD");
    long raises = event("RAISE");
    PyFrameObject *frame;
    PyObject *code;

    started++;
    if (tool < 0) {
        if (!get_tool())
            return NULL;
        call("register_callback", "(ilO)", tool, raises, raise_function);
        call("register_callback", "(ilO)", tool, returns, return_function);
        call("register_callback", "(ilO)", tool, yields, return_function);
        call("set_events", "(il)", tool, raises);
    }
    frame = PyThreadState_GetFrame(thread);
    if (frame == NULL)
        return NULL;
    code = (PyObject *)PyFrame_GetCode(frame);
    Py_DECREF(frame);
    call("set_local_events", "(iOl)", tool, code, returns | yields);
    return code;
}

void
safemmap_monitoring_stop(PyObject *code)
{
    started--;
    if (tool < 0)
        return;
    if (code != NULL)
        call("set_local_events", "(iOi)", tool, code, 0);
    if (started == 0) {
        call("set_events", "(ii)", tool, 0);
        call("free_tool_id", "(i)", tool);
        tool = -1;
    }
}

void
safemmap_monitoring_trace(PyThreadState *thread)
{
    (void)thread;
}

void
safemmap_monitoring_untrace(PyThreadState *thread)
{
    (void)thread;
}

#else

/* Py_tracefunc */
static int
trace(PyObject *object, PyFrameObject *frame, int what, PyObject *argument)
{
    PyObject *raised =
        what == PyTrace_EXCEPTION ? PyTuple_GetItem(argument, 1) : NULL;

    (void)object;
    (void)frame;
    /* The pending exception is raised now: the interpreter has made an instance for
     * this call, and would make another. */
    if (raised != NULL && PyThreadState_Get()->c_tracefunc != trace) {
        PyErr_SetObject((PyObject *)Py_TYPE(raised), raised);
        return -1;
    }
    if (raised != NULL)
        return monitor(raised);
    /* A function that is left by an exception has already called back. */
    return what == PyTrace_RETURN && argument == NULL ? 0 : monitor(NULL);
}

int
safemmap_monitoring_setup(safemmap_monitor *function)
{
    monitor = function;
    return 0;
}

PyObject *
safemmap_monitoring_start(PyThreadState *thread)
{
    (void)thread;
    return NULL;
}

void
safemmap_monitoring_stop(PyObject *code)
{
    (void)code;
}

/* What sys.settrace() does. The interpreter reads `use_tracing` before each
 * instruction, and sets `c_tracefunc` in the thread itself alone. */
void
safemmap_monitoring_trace(PyThreadState *thread)
{
    if (thread->c_tracefunc != NULL || thread->tracing != 0)
        return;
    thread->c_tracefunc = trace;
    thread->cframe->use_tracing = 255;
}

void
safemmap_monitoring_untrace(PyThreadState *thread)
{
    if (thread->c_tracefunc != trace)
        return;
    thread->c_tracefunc = NULL;
    if (thread->tracing == 0)
        thread->cframe->use_tracing = thread->c_profilefunc != NULL ? 255 : 0;
}

#endif

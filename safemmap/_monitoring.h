/* Calls back when a thread raises or returns, while that is asked for: by
 * sys.monitoring, or on CPython 3.11, which has none, by a trace function. */
#ifndef SAFEMMAP_MONITORING_H
#define SAFEMMAP_MONITORING_H

#include <Python.h>

/* Called in a thread that raises an exception (`raised`), or that returns from or
 * goes on in a function (NULL). 0, or -1 to raise another instead. Any thread may
 * call it. */
typedef int safemmap_monitor(PyObject *raised);

/* Once. -1: an exception is set. */
int safemmap_monitoring_setup(safemmap_monitor *monitor);

/* Monitors what any thread raises, and the returns of the function that `thread` is
 * in. Returns its code object, or NULL. (From 3.12 on.) */
PyObject *safemmap_monitoring_start(PyThreadState *thread);
/* Ends that; `code`, unless NULL, is not monitored for another thread. When the last
 * one has ended, the tool number is given back. */
void safemmap_monitoring_stop(PyObject *code);

/* The same for the calling thread alone, without the GIL and in a signal handler; and
 * its end, with the GIL. (On 3.11, unless the thread is traced already.) */
void safemmap_monitoring_trace(PyThreadState *thread);
void safemmap_monitoring_untrace(PyThreadState *thread);

#endif

/* Decides which thread gets the exception for a fault, and raises it there before it
 * can use a zero: in the thread that faulted, in one that waits for it, or in the
 * main one.
 *
 * The core calls on_fault() in the signal handler. It must take effect when the
 * interpreter next checks its eval breaker, which it does after a call of a C
 * function, before the result can be stored. (Operators, indices, and calls that it
 * has an instruction of its own for are no such calls: what it looks at next raises.)
 * This relies on three facts:
 *
 * - The fault is synchronous: its thread is in C code that touches mapped memory, and
 *   so holds none of the interpreter's locks, nor is it in the middle of a change to
 *   its own thread state.
 * - A pending call can be asked for there (_pending.c). It is made with the GIL, in
 *   whichever thread looks at the eval breaker first; from 3.12 on in any thread, or
 *   in the main thread alone, as asked for; on 3.11 always in the main thread.
 * - A thread looks at `async_exc` of its own state when it looks at the eval breaker,
 *   and has it looked at when it takes the GIL.
 *
 * A callback that runs in the thread that faulted can still choose: if the
 * interrupted code has raised an error since, because of the zeros, that error stays,
 * and ours becomes its cause. Where no callback can run in that thread in time, we
 * set an asynchronous exception, which cannot choose; its class makes the instance
 * when it is raised. From 3.12 on, while one is pending, a callback for RAISE
 * (sys.monitoring) takes it back when the interrupted code raises an error of its
 * own, and one for PY_RETURN raises it before the function that faulted can return.
 *
 * Records change with the GIL held only, except that on_fault() claims a free one. (A
 * build that can do without has turned it on: _interrupt.pxi.)
 */
#include "_interrupt.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "_monitoring.h"
#include "_pending.h"
#include "_waiting.h"
#include "_watcher.h"

enum { RECORDS = 256, REFERENCES = 64, POSTPONEMENTS = 100000, LONGEST_CHAIN = 1000 };
/* How often a thread sleeps for 0.1 ms, at most: in the signal handler, until the
 * exception is on its way to another thread, some 40 ms in all; and with the GIL,
 * until the access that faulted is over, for which its thread only needs a processor.
 */
enum { WAITS_IN_HANDLER = 250, WAITS_FOR_ACCESS = 5000 };

/* The states of a record. */
enum {
    FREE,
    CLAIMED,   /* by on_fault(), which fills it in */
    QUEUED,    /* a callback is pending */
    CANCELLED, /* a callback is pending, and will do nothing */
    ON_ITS_WAY /* the asynchronous exception of the thread is set */
};

/* Where the thread that faulted is. */
enum {
    OUT,       /* it has left the signal handler, or will without waiting */
    WAITING,   /* in the signal handler, for a call of `decide` */
    MAY_GO_ON, /* there, and has been told to leave */
};

/* A fault that is to be raised in a thread. */
static struct record {
    int state;
    int place;
    bool waited;
    long
        minor_faults; /* of the thread, as it left the signal handler after waiting */
    struct safemmap_event event;
    pid_t process;
    PyThreadState *thread; /* NULL: Python does not know it */
    uint64_t thread_number;
    PyObject *handled; /* the exception that the thread handled then; to compare */
    unsigned postponed;
    bool monitored;
    PyObject *returns; /* the code object whose returns are monitored for it */
} records[RECORDS];

/* Stacks of threads that Python does not know. (Kept apart from the records, which
 * are searched.) */
static struct safemmap_stack stacks[RECORDS];

static safemmap_make_error *make_error;
static PyInterpreterState *interpreter;
static PyThreadState *main_thread;
/* A class that makes the instance when it is raised. */
static PyObject *raised_later;
/* References to that class, held in stock for on_fault(). */
static int references;
/* The process whose main thread ran no code of the program's any more when an
 * exception came for it. */
static pid_t too_late_in;
/* The token of the newest overlay: tokens become smaller. */
static uint64_t newest = UINT64_MAX;

static int decide(void *argument);

/* ---- What differs between versions ------------------------------------- */

/* Queues a call of `decide`, in the thread or soon in any; false if it cannot be
 * queued.
 */
static bool
queue_call(const PyThreadState *thread, struct record *record)
{
    const bool in_main = thread == main_thread;

#if PY_VERSION_HEX < 0x030C0000
    if (thread != NULL && !in_main)
        return false;
#endif
    return safemmap_pending_add(decide, record, in_main);
}

#if PY_VERSION_HEX < 0x030D0000
static void (*signal_exception)(PyInterpreterState *);
#endif

static void
have_exception_seen(PyThreadState *thread)
{
#if PY_VERSION_HEX >= 0x030D0000
    const uintptr_t asynchronous_exception = 1 << 3; /* internal/pycore_ceval.h */

    __atomic_fetch_or(&thread->eval_breaker, asynchronous_exception,
                      __ATOMIC_SEQ_CST);
#else
    signal_exception(thread->interp);
#endif
}

static bool
has_gil(const PyThreadState *self)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyThreadState_GetUnchecked() == self;
#else
    return _PyThreadState_UncheckedGet() == self;
#endif
}

/* ---- In the signal ----------------------------------------------------- */

static PyObject *
handled_by(const PyThreadState *thread)
{
    for (_PyErr_StackItem *item = thread->exc_info; item != NULL;
         item = item->previous_item)
        if (item->exc_value != NULL && item->exc_value != Py_None)
            return item->exc_value;
    return NULL;
}

/* The state of the record of an exception that is pending for the thread, which makes
 * no other for further faults; or FREE. (One that another thread has just claimed
 * still names the thread of its last fault.) */
static int
pending_state(pid_t thread, pid_t process)
{
    for (struct record *record = records; record < records + RECORDS; record++) {
        int state = __atomic_load_n(&record->state, __ATOMIC_ACQUIRE);

        if ((state == QUEUED || state == ON_ITS_WAY) &&
            record->event.fault.thread == thread && record->process == process)
            return state;
    }
    return FREE;
}

static struct record *
claim(void)
{
    for (struct record *record = records; record < records + RECORDS; record++) {
        int state = FREE;

        if (__atomic_compare_exchange_n(&record->state, &state, CLAIMED, false,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return record;
    }
    return NULL;
}

static bool
take_reference(void)
{
    int count = __atomic_load_n(&references, __ATOMIC_RELAXED);

    while (count > 0)
        if (__atomic_compare_exchange_n(&references, &count, count - 1, false,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return true;
    return false;
}

/* Called by the thread itself. Other threads access the field only with the GIL, and
 * may have put another exception there. */
static bool
put_exception(PyThreadState *thread)
{
    PyObject *none = NULL;

    if (!take_reference())
        return false;
    if (!__atomic_compare_exchange_n(&thread->async_exc, &none, raised_later, false,
                                     __ATOMIC_RELEASE, __ATOMIC_RELAXED)) {
        __atomic_fetch_add(&references, 1, __ATOMIC_RELEASE);
        return false;
    }
    have_exception_seen(thread);
    return true;
}

/* While another thread makes pending calls, and waits for a lock in between, this one
 * goes on without making them. So it has an asynchronous exception set beside the
 * call, which takes it back. (On 3.11 only the main thread makes such calls.) */
static void
insist(const struct record *record, PyThreadState *thread)
{
#if PY_VERSION_HEX >= 0x030C0000
    /* (It may have been left to the main thread.) */
    if (__atomic_load_n(&record->state, __ATOMIC_ACQUIRE) == QUEUED &&
        record->thread == thread)
        put_exception(thread);
#else
    (void)record;
    (void)thread;
#endif
}

static void
keep_token(uint64_t token)
{
    uint64_t before = __atomic_load_n(&newest, __ATOMIC_RELAXED);

    while (token != 0 && token < before &&
           !__atomic_compare_exchange_n(&newest, &before, token, false,
                                        __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
}

/* (By a system call that is no cancellation point.) */
static void
sleep_a_little(void)
{
    const struct timespec little = {0, 100000};

    syscall(SYS_nanosleep, &little, NULL);
}

/* Waits until another thread has called `decide`. */
static void
wait_for_decision(struct record *record)
{
    struct rusage usage;

    for (int i = 0; i < WAITS_IN_HANDLER &&
                    __atomic_load_n(&record->state, __ATOMIC_ACQUIRE) == QUEUED &&
                    __atomic_load_n(&record->place, __ATOMIC_ACQUIRE) == WAITING;
         i++)
        sleep_a_little();
    getrusage(RUSAGE_THREAD, &usage);
    record->minor_faults = usage.ru_minflt;
    __atomic_store_n(&record->place, OUT, __ATOMIC_RELEASE);
}

/* Whether other threads run Python code while the thread goes on, so that it might
 * have used the zeros by the time that they call `decide`: it does not have the GIL,
 * and does not call `decide` itself. */
static bool
must_wait(const PyThreadState *thread)
{
    return thread == NULL || (thread != main_thread && !has_gil(thread));
}

/* safemmap_fault_hook */
static bool
on_fault(const struct safemmap_event *event)
{
    PyThreadState *thread = PyGILState_GetThisThreadState();
    pid_t process = getpid();
    struct record *record;
    const bool wait = must_wait(thread);
    int state;

    if (thread != NULL && thread->interp != interpreter)
        return false;
    keep_token(event->token);
    state = pending_state(event->fault.thread, process);
    record = state == FREE ? claim() : NULL;
    if (record == NULL)
        return state == QUEUED;
    record->event = *event;
    record->process = process;
    record->postponed = 0;
    record->waited = wait;
    record->place = wait ? WAITING : OUT;
    record->thread = thread;
    record->thread_number = thread == NULL ? 0 : thread->id;
    record->handled = thread == NULL ? NULL : handled_by(thread);
    if (thread == NULL)
        safemmap_stack_copy(&stacks[record - records], event->stack);

    /* Another thread may call `decide` before this function returns. */
    __atomic_store_n(&record->state, QUEUED, __ATOMIC_RELEASE);
    if (queue_call(thread, record)) {
        if (wait)
            wait_for_decision(record);
        if (thread != NULL)
            insist(record, thread);
        return true;
    }
    __atomic_store_n(&record->state, ON_ITS_WAY, __ATOMIC_RELEASE);
    if (thread != NULL && put_exception(thread))
        safemmap_monitoring_trace(thread);
    else
        __atomic_store_n(&record->state, FREE, __ATOMIC_RELEASE);
    return false;
}

/* ---- Threads ----------------------------------------------------------- */

static bool
is_alive(const struct record *record)
{
    PyThreadState *thread = PyInterpreterState_ThreadHead(interpreter);

    while (thread != NULL && thread != record->thread)
        thread = PyThreadState_Next(thread);
    return thread != NULL && thread->id == record->thread_number;
}

/* The main one; in the child of a fork the one that is left. */
static PyThreadState *
oldest_thread(void)
{
    PyThreadState *thread = PyInterpreterState_ThreadHead(interpreter);

    while (PyThreadState_Next(thread) != NULL)
        thread = PyThreadState_Next(thread);
    return thread;
}

/* Of the thread that is to be told, by the kernel's id. */
static pid_t
told_thread(const struct record *record)
{
    return record->thread != NULL && is_alive(record)
               ? (pid_t)record->thread->native_thread_id
               : record->event.fault.thread;
}

static void
keep_references(void)
{
    while (__atomic_load_n(&references, __ATOMIC_RELAXED) < REFERENCES) {
        Py_INCREF(raised_later);
        __atomic_fetch_add(&references, 1, __ATOMIC_RELEASE);
    }
}

/* ---- Raising ----------------------------------------------------------- */

static void
stop_monitoring(struct record *record)
{
    bool monitored = record->monitored;
    PyObject *code = record->returns, *last = code;

    record->monitored = false;
    record->returns = NULL;
    for (struct record *other = records; other < records + RECORDS; other++)
        if (other->returns == code)
            last = NULL;
    if (monitored)
        safemmap_monitoring_stop(last);
    Py_XDECREF(code);
}

/* Whether the thread that faulted has yet to repeat the access. (That maps the page
 * of zeros, which the kernel counts.) */
static bool
is_under_way(const struct record *record)
{
    return __atomic_load_n(&record->place, __ATOMIC_ACQUIRE) != OUT ||
           safemmap_minor_faults(record->event.fault.thread) == record->minor_faults;
}

/* Lets another thread repeat the access that faulted. If the zeros were withdrawn
 * before, it would fault, and be told, once more. */
static void
let_access_end(const struct record *record)
{
    if (!record->waited || record->process != getpid() ||
        record->event.fault.thread == (pid_t)PyThread_get_thread_native_id())
        return;
    for (int i = 0; i < WAITS_FOR_ACCESS && is_under_way(record); i++)
        sleep_a_little();
}

static void
take_back(struct record *record)
{
    if (is_alive(record) && record->thread->async_exc == raised_later)
        PyThreadState_SetAsyncExc(record->thread->thread_id, NULL);
}

/* Frees the record, once the exception was raised or dropped. Withdraws all zeros, so
 * that the next touch of any replaced page faults anew. (A thread whose exception is
 * pending gets new zeros.) */
static void
finish(struct record *record)
{
    if (record->state == ON_ITS_WAY && is_alive(record))
        safemmap_monitoring_untrace(record->thread);
    if (record->state == QUEUED)
        take_back(record);
    let_access_end(record);
    safemmap_withdraw(__atomic_load_n(&newest, __ATOMIC_ACQUIRE));
    stop_monitoring(record);
    __atomic_store_n(&record->state, FREE, __ATOMIC_RELEASE);
    keep_references();
}

/* A new exception for the record, or the one that making it has raised; NULL, with
 * none set: it is no longer due. */
static PyObject *
error_of(const struct record *record)
{
    PyObject *error = make_error(&record->event), *type, *traceback;

    if (error == NULL && PyErr_Occurred()) {
        PyErr_Fetch(&type, &error, &traceback);
        PyErr_NormalizeException(&type, &error, &traceback);
        Py_XDECREF(type);
        Py_XDECREF(traceback);
    }
    return error;
}

/* Appends `error` to the chain of causes of `raised`. A chain that leads back into
 * itself has no end, and is cut off behind `raised`. */
static void
become_cause(PyObject *error, PyObject *raised)
{
    PyObject *last = Py_NewRef(raised), *cause = NULL;

    for (int length = 0; last != error && length < LONGEST_CHAIN; length++) {
        cause = PyException_GetCause(last);
        if (cause == NULL)
            break;
        Py_SETREF(last, cause);
    }
    if (last != error)
        PyException_SetCause(cause == NULL ? last : raised, Py_NewRef(error));
    Py_DECREF(last);
}

static bool
is_module(PyFrameObject *frame, const char *name, bool or_below)
{
    PyObject *globals = PyFrame_GetGlobals(frame);
    PyObject *found = PyDict_GetItemString(globals, "__name__");
    const char *module =
        found == NULL || !PyUnicode_Check(found) ? NULL : PyUnicode_AsUTF8(found);
    size_t size = strlen(name);
    bool is = module != NULL && strncmp(module, name, size) == 0 &&
              (module[size] == 0 || (or_below && module[size] == '.'));

    Py_DECREF(globals);
    return is;
}

static bool
is_function(PyFrameObject *frame, const char *name)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    bool is = PyUnicode_CompareWithASCIIString(code->co_qualname, name) == 0;

    Py_DECREF(code);
    return is;
}

/* Whether the frame is of a module that both programs and pools are built on. */
static bool
is_in_threading(PyFrameObject *frame)
{
    return is_module(frame, "threading", false) || is_module(frame, "queue", false) ||
           is_module(frame, "selectors", false) ||
           is_module(frame, "_weakrefset", false) ||
           is_module(frame, "concurrent.futures._base", false);
}

/* Whether the frame is of a pool: it fetches work, hands on the result. (What calls
 * an executor's item makes an exception that of its future.) */
static bool
is_in_pool(PyFrameObject *frame)
{
    if (is_module(frame, "concurrent.futures.thread", false) &&
        (is_function(frame, "_WorkItem.run") ||
         is_function(frame, "WorkerContext.run")))
        return false;
    return is_module(frame, "concurrent.futures", true) ||
           is_module(frame, "multiprocessing", true);
}

/* Whether an exception would be raised in the code of a pool, or before the thread
 * runs any code: it would end the thread, and the pool's shutdown, or the thread that
 * starts it, would wait for ever. (A program's own calls of `threading` may raise.)
 */
static bool
is_between_items(PyThreadState *thread)
{
    PyFrameObject *frame = PyThreadState_GetFrame(thread);
    bool is;

    while (frame != NULL && is_in_threading(frame) &&
           !is_function(frame, "Thread.run"))
        Py_SETREF(frame, PyFrame_GetBack(frame));
    is = frame == NULL || is_in_pool(frame);
    Py_XDECREF(frame);
    return is;
}

/* Whether the thread waits for work or for other threads, or is only starting, and so
 * is in no library. (Return addresses on its stack are then remains of earlier calls,
 * or of an earlier thread.) */
static bool
is_idle(PyThreadState *thread)
{
    PyFrameObject *frame = PyThreadState_GetFrame(thread);
    bool is = frame == NULL || is_in_threading(frame) || is_in_pool(frame);

    Py_XDECREF(frame);
    return is;
}

/* If the function that faulted has already returned to an executor of
 * concurrent.futures, sets the exception of its future. */
static bool
tell_future(PyFrameObject *frame, PyObject *error)
{
    PyObject *locals, *future = NULL;
    bool told;

    Py_INCREF(frame);
    while (frame != NULL && is_in_threading(frame) &&
           !is_function(frame, "Future.set_result"))
        Py_SETREF(frame, PyFrame_GetBack(frame));
    if (frame == NULL || !is_in_threading(frame)) {
        Py_XDECREF(frame);
        return false;
    }
    locals = PyFrame_GetLocals(frame);
    Py_DECREF(frame);
    if (locals != NULL)
        future = PyMapping_GetItemString(locals, "self");
    told = future != NULL && PyObject_SetAttrString(future, "_exception", error) == 0;
    PyErr_Clear();
    Py_XDECREF(future);
    Py_XDECREF(locals);
    return told;
}

/* If the thread's function has already returned, calls threading.excepthook: an
 * exception must not end the rest of threading.py early. */
static bool
tell_thread(PyFrameObject *frame, PyObject *error)
{
    PyObject *threading, *hook = NULL, *thread = NULL, *arguments = NULL,
                         *done = NULL;

    if (is_function(frame, "Thread.run"))
        return false;
    Py_INCREF(frame);
    while (frame != NULL && is_module(frame, "threading", false))
        Py_SETREF(frame, PyFrame_GetBack(frame));
    if (frame != NULL) {
        Py_DECREF(frame);
        return false;
    }
    threading = PyImport_ImportModule("threading");
    if (threading != NULL)
        thread = PyObject_CallMethod(threading, "current_thread", NULL);
    if (thread != NULL)
        arguments = PyObject_CallMethod(threading, "ExceptHookArgs", "((OOOO))",
                                        Py_TYPE(error), error, Py_None, thread);
    if (arguments != NULL)
        hook = PyObject_GetAttrString(threading, "excepthook");
    if (hook != NULL)
        done = PyObject_CallOneArg(hook, arguments);
    if (done == NULL)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(done);
    Py_XDECREF(hook);
    Py_XDECREF(arguments);
    Py_XDECREF(thread);
    Py_XDECREF(threading);
    return true;
}

/* Whether the thread runs code of asyncio itself: an exception there, after a task's
 * coroutine has returned, would leave others waiting for the task for ever. The
 * program's code that gets the result runs next, on the same thread. */
static bool
is_in_event_loop(PyThreadState *thread)
{
    PyFrameObject *frame = PyThreadState_GetFrame(thread);
    bool is = false;

    while (frame != NULL && (is_module(frame, "selectors", false) ||
                             is_module(frame, "_weakrefset", false)))
        Py_SETREF(frame, PyFrame_GetBack(frame));
    if (frame != NULL && is_module(frame, "asyncio", true)) {
        Py_SETREF(frame, PyFrame_GetBack(frame));
        is = frame != NULL && is_module(frame, "asyncio", true);
    }
    Py_XDECREF(frame);
    return is;
}

static bool
has_name(PyFrameObject *frame, const char *name)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    bool has = PyUnicode_CompareWithASCIIString(code->co_name, name) == 0;

    Py_DECREF(code);
    return has;
}

/* Exceptions of a destructor, and of a weak reference's callback, are ignored: the
 * call that faulted may have freed an object. */
static bool
is_destructor(PyFrameObject *frame)
{
    return has_name(frame, "__del__") ||
           (has_name(frame, "_remove") && is_module(frame, "_weakrefset", false)) ||
           (has_name(frame, "remove") && is_module(frame, "weakref", false));
}

/* Whether it is a loop's call_soon(), called for a future that is done: an exception
 * would leave those that wait for the future waiting for ever. (Futures and tasks
 * pass a context. Without one, the program calls, and can have the exception.) */
static bool
is_scheduling(PyFrameObject *frame)
{
    PyObject *locals, *context = NULL;
    bool is;

    if (!has_name(frame, "call_soon"))
        return false;
    locals = PyFrame_GetLocals(frame);
    if (locals != NULL)
        context = PyMapping_GetItemString(locals, "context");
    is = context != Py_None;
    PyErr_Clear();
    Py_XDECREF(context);
    Py_XDECREF(locals);
    return is;
}

/* Whether the thread runs such a function, or what one has called. */
static bool
is_under(PyThreadState *thread, bool (*is_such)(PyFrameObject *))
{
    PyFrameObject *frame = PyThreadState_GetFrame(thread);
    bool is = false;

    while (frame != NULL && !is) {
        is = is_such(frame);
        Py_SETREF(frame, PyFrame_GetBack(frame));
    }
    Py_XDECREF(frame);
    return is;
}

/* Queues the callback once more. */
static bool
postpone(struct record *record)
{
    if (record->postponed >= POSTPONEMENTS || !queue_call(record->thread, record))
        return false;
    record->postponed++;
    return true;
}

/* Has the main thread raise the exception, once it runs the program's code. If no
 * pending call can be made, the next touch of the pages faults and raises. */
static void
leave_to_main_thread(struct record *record)
{
    take_back(record);
    record->thread = oldest_thread();
    record->thread_number = record->thread->id;
    record->handled = handled_by(record->thread);
    record->state = QUEUED;
    if (record->place == WAITING)
        __atomic_store_n(&record->place, MAY_GO_ON, __ATOMIC_RELEASE);
    if (record->postponed >= POSTPONEMENTS ||
        !safemmap_pending_add(decide, record, true)) {
        too_late_in = getpid();
        finish(record);
    } else
        record->postponed++;
}

/* Whether another thread faulted than the one that is to raise. */
static bool
is_others(const struct record *record)
{
    return record->event.fault.thread != (pid_t)record->thread->native_thread_id;
}

/* Raises the exception in the calling thread. (Not if a foreign asynchronous
 * exception is pending: that one is raised now.) */
static int
raise_here(struct record *record)
{
    PyThreadState *thread = PyThreadState_Get();
    PyObject *handled = handled_by(thread), *error;
    bool own_error = handled != NULL && handled != record->handled;
    PyFrameObject *frame;
    bool told = true;
    int result = 0;

    take_back(record);
    if (!own_error &&
        (is_in_event_loop(thread) || is_under(thread, is_scheduling) ||
         is_under(thread, is_destructor) || (is_others(record) && is_idle(thread))) &&
        postpone(record))
        return 0;
    error = thread->async_exc == NULL ? error_of(record) : NULL;
    if (error == NULL) {
        finish(record);
        return 0;
    }
    frame = PyThreadState_GetFrame(thread);
    if (own_error)
        become_cause(error, handled);
    else if (frame != NULL && tell_future(frame, error))
        ;
    else if (frame != NULL && tell_thread(frame, error)) {
        if (thread == main_thread)
            too_late_in = getpid();
    } else if (is_between_items(thread))
        told = false;
    else {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        result = -1;
    }
    if (told)
        finish(record);
    else
        leave_to_main_thread(record);
    Py_XDECREF(frame);
    Py_DECREF(error);
    return result;
}

/* Sets the asynchronous exception of a thread that has released the GIL, and runs no
 * Python code before it takes it again. If one is set already, it is a foreign one.
 */
static void
raise_there(struct record *record)
{
    PyThreadState *thread = record->thread;

    if (!is_alive(record) ||
        (thread->async_exc != NULL && thread->async_exc != raised_later)) {
        finish(record);
        return;
    }
    if (is_between_items(thread)) {
        leave_to_main_thread(record);
        return;
    }
    record->returns = safemmap_monitoring_start(thread);
    record->monitored = true;
    record->state = ON_ITS_WAY;
    PyThreadState_SetAsyncExc(thread->thread_id, raised_later);
}

/* Frees the records of threads that have ended before their exception was raised, and
 * withdraws the exceptions of threads that have returned to their pool. */
static void
withdraw_late(void)
{
    for (struct record *record = records; record < records + RECORDS; record++) {
        if (__atomic_load_n(&record->state, __ATOMIC_ACQUIRE) != ON_ITS_WAY)
            continue;
        if (!is_alive(record))
            finish(record);
        else if (record->monitored && is_between_items(record->thread)) {
            take_back(record);
            stop_monitoring(record);
            leave_to_main_thread(record);
        }
    }
}

/* What returned calls have left on this thread's stack. Too large for a stack; the
 * GIL is held. */
static struct safemmap_stack left;

/* Before deeper calls overwrite it. */
__attribute__((noinline)) static void
keep_left(void)
{
    safemmap_stack_copy(&left,
                        (uintptr_t)__builtin_frame_address(0) - sizeof(left.word));
}

/* Picks the thread that waits for the one that faulted; or NULL. While that one is
 * held in the signal handler, whoever waits for it has not returned: what lies beyond
 * the calling thread's stack is of calls that have nothing to do with it, or of an
 * earlier thread which had that stack. */
static void
find_waiting(struct record *record, uintptr_t here)
{
    const bool is_held = __atomic_load_n(&record->place, __ATOMIC_ACQUIRE) != OUT;

    record->thread =
        safemmap_waiting_thread(interpreter, is_idle, &stacks[record - records], here,
                                is_held ? NULL : &left);
    if (record->thread != NULL)
        record->thread_number = record->thread->id;
}

static int
raise_or_pass_on(struct record *record)
{
    PyThreadState *thread = PyThreadState_Get();

    if (record->thread == NULL)
        keep_left();
    withdraw_late();
    if (record->state == CANCELLED || record->process != getpid()) {
        finish(record);
        return 0;
    }
    if (record->thread == NULL)
        find_waiting(record, (uintptr_t)__builtin_frame_address(0));
    if (record->thread == NULL) {
        leave_to_main_thread(record);
        return 0;
    }
    if (record->thread == thread && record->thread_number == thread->id)
        return raise_here(record);
    if (record->postponed == 0 || !postpone(record))
        raise_there(record);
    return 0;
}

/* The pending call. The event of the fault is in the queue. */
static int
decide(void *argument)
{
    int result = raise_or_pass_on(argument);
    PyObject *type, *error, *traceback;

    PyErr_Fetch(&type, &error, &traceback);
    safemmap_watcher_take_news();
    PyErr_Restore(type, error, traceback);
    return result;
}

/* The record of an exception that is to be raised in this thread. */
static struct record *
pending_here(void)
{
    PyThreadState *thread = PyThreadState_Get();

    for (struct record *record = records; record < records + RECORDS; record++) {
        int state = __atomic_load_n(&record->state, __ATOMIC_ACQUIRE);

        if (record->thread == thread && record->thread_number == thread->id &&
            (state == ON_ITS_WAY || (state == QUEUED && !is_others(record))))
            return record;
    }
    return NULL;
}

/* Called when the exception has been raised, or is a cause, without a call of
 * `decide`: if that is still pending, it will do nothing. */
static void
has_been_told(struct record *record)
{
    if (record->state == ON_ITS_WAY) {
        finish(record);
        return;
    }
    safemmap_withdraw(__atomic_load_n(&newest, __ATOMIC_ACQUIRE));
    __atomic_store_n(&record->state, CANCELLED, __ATOMIC_RELEASE);
    keep_references();
}

/* Whether the exception only signals the end of an iteration. */
static bool
is_no_error(PyObject *raised)
{
    return PyErr_GivenExceptionMatches(raised, PyExc_StopIteration) ||
           PyErr_GivenExceptionMatches(raised, PyExc_StopAsyncIteration) ||
           PyErr_GivenExceptionMatches(raised, PyExc_GeneratorExit);
}

/* safemmap_monitor */
static int
monitor(PyObject *raised)
{
    struct record *record = pending_here();
    PyObject *error;

    if (record == NULL || (raised != NULL && is_no_error(raised)))
        return 0;
    take_back(record);
    error = error_of(record);
    has_been_told(record);
    if (error == NULL)
        return 0;
    if (raised != NULL)
        become_cause(error, raised);
    else
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_DECREF(error);
    return raised != NULL ? 0 : -1;
}

/* `__new__` of the class that is set as the asynchronous exception. */
static PyObject *
make_instance(PyObject *error_class, PyObject *arguments)
{
    struct record *record = pending_here();
    PyObject *error = NULL;

    (void)arguments;
    if (record != NULL) {
        error = error_of(record);
        has_been_told(record);
    }
    return error != NULL ? error : PyObject_CallNoArgs(error_class);
}

/* ---- For the module ---------------------------------------------------- */

int
safemmap_interrupt_start(PyObject *error_class, safemmap_make_error *make)
{
    static PyMethodDef method = {"__new__", make_instance, METH_VARARGS, NULL};
    PyObject *function;

    if (raised_later == NULL) {
#if PY_VERSION_HEX < 0x030D0000
        signal_exception = (void (*)(PyInterpreterState *))dlsym(
            RTLD_DEFAULT, "_PyEval_SignalAsyncExc");
        if (signal_exception == NULL) {
            PyErr_SetString(PyExc_RuntimeError,
                            "views=\"interrupt\" and enable() need a function that "
                            "this build of Python hides: _PyEval_SignalAsyncExc");
            return -1;
        }
#endif
        if (safemmap_monitoring_setup(monitor) < 0)
            return -1;
        function = PyCFunction_New(&method, error_class);
        if (function == NULL)
            return -1;
        raised_later = PyObject_CallFunction((PyObject *)&PyType_Type, "s(O){sN}",
                                             "BusError", error_class, "__new__",
                                             PyStaticMethod_New(function));
        Py_DECREF(function);
        if (raised_later == NULL)
            return -1;
        keep_references();
        make_error = make;
        interpreter = PyInterpreterState_Get();
        main_thread = oldest_thread();
    }
    safemmap_set_fault_hook(on_fault);
    return 0;
}

void
safemmap_interrupt_stop(void)
{
    safemmap_set_fault_hook(NULL);
}

void
safemmap_interrupt_cancel(uint64_t region, pid_t thread)
{
    for (struct record *record = records; record < records + RECORDS; record++) {
        int state = __atomic_load_n(&record->state, __ATOMIC_ACQUIRE);

        if ((state != QUEUED && state != ON_ITS_WAY) ||
            record->event.region != region ||
            (thread != 0 && told_thread(record) != thread))
            continue;
        take_back(record);
        if (state == QUEUED)
            record->state = CANCELLED;
        else
            finish(record);
    }
}

bool
safemmap_interrupt_is_too_late(void)
{
    if (too_late_in == getpid())
        return true;
    for (struct record *record = records; record < records + RECORDS; record++) {
        int state = __atomic_load_n(&record->state, __ATOMIC_ACQUIRE);

        if ((state == QUEUED || state == ON_ITS_WAY) && record->process == getpid() &&
            record->thread == main_thread)
            return true;
    }
    return false;
}

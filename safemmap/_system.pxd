# What CPython and libc offer and Cython does not declare.
from cpython.object cimport PyObject


cdef extern from *:
    """
    /* Most indices are ints of one digit; what they are is read here without a call.
     * (For PyUnstable_Long_IsCompact, see CPython's documentation.) False: it is
     * anything else. */
    static inline int
    safemmap_small_int(PyObject *value, Py_ssize_t *ret_number)
    {
        PyLongObject *number = (PyLongObject *)value;

        if (!PyLong_CheckExact(value))
            return 0;
    #if PY_VERSION_HEX >= 0x030C0000
        if (!PyUnstable_Long_IsCompact(number))
            return 0;
        *ret_number = PyUnstable_Long_CompactValue(number);
    #else
        if (Py_SIZE(number) < -1 || Py_SIZE(number) > 1)
            return 0;
        *ret_number = Py_SIZE(number) * (Py_ssize_t)number->ob_digit[0];
    #endif
        return 1;
    }
    """
    bint safemmap_small_int(PyObject *value, Py_ssize_t *ret_number)

cdef extern from *:
    """
    #if PY_VERSION_HEX >= 0x030D0000
    #define safemmap_is_finalizing() Py_IsFinalizing()
    #else
    #define safemmap_is_finalizing() _Py_IsFinalizing()
    #endif
    """
    bint safemmap_is_finalizing()

cdef extern from *:
    """
    /* Exceptions of this class get no line in their traceback from the functions of
     * this module that they pass, as they would from none of a module in C: each costs
     * a tenth of a fault. (Cython goes on without where there is no frame. An `except`
     * in this module that does not raise it again would miss the traceback.) */
    #include <frameobject.h>
    static PyObject *safemmap_without_frames;
    static inline PyFrameObject *
    safemmap_frame(PyThreadState *thread, PyCodeObject *code, PyObject *globals,
                   PyObject *locals)
    {
        return PyErr_Occurred() == safemmap_without_frames
                   ? NULL : PyFrame_New(thread, code, globals, locals);
    }
    #define PyFrame_New safemmap_frame
    """
    PyObject *safemmap_without_frames

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    ctypedef struct PySliceObject:
        PyObject *start
        PyObject *stop
        PyObject *step
    PyObject *Py_None
    ctypedef struct PySequenceMethods:
        int (*sq_contains)(object, object) except -1
        object (*sq_item)(object, Py_ssize_t)
        int (*sq_ass_item)(object, Py_ssize_t, PyObject *) except -1
    ctypedef struct PyMappingMethods:
        object (*mp_subscript)(object, object)
    ctypedef struct PyBufferProcs:
        void *bf_getbuffer
    ctypedef struct TypeObject "PyTypeObject":
        const char *tp_name
        PyBufferProcs *tp_as_buffer
        PyObject *tp_dict
        object (*tp_new)(TypeObject *, object, PyObject *)
        object (*tp_vectorcall)(object, PyObject *const *, size_t, PyObject *)
        object (*tp_iter)(object)
        PyObject *(*tp_iternext)(PyObject *) noexcept
        PySequenceMethods *tp_as_sequence
        PyMappingMethods *tp_as_mapping
    ctypedef struct PyMethodDef:
        pass
    ctypedef struct PyMethodDescrObject:
        PyMethodDef *d_method
    ctypedef struct PyWrapperDescrObject:
        void *d_wrapped
    object PyDescr_NewMethod(type cls, PyMethodDef *method)
    object PyObject_Call(object function, object arguments, PyObject *keywords)
    object PyObject_Vectorcall(object function, PyObject *const *arguments,
                               size_t count, PyObject *names)
    void PyType_Modified(type)
    unsigned long PyThread_get_thread_native_id()
    ctypedef struct PyInterpreterState:
        pass
    ctypedef struct PyThreadState:
        unsigned long thread_id
        unsigned long native_thread_id
        PyObject *async_exc
    PyInterpreterState *PyInterpreterState_Get()
    PyObject *PyInterpreterState_GetDict(PyInterpreterState *interpreter)
    PyThreadState *PyInterpreterState_ThreadHead(PyInterpreterState *interpreter)
    PyThreadState *PyThreadState_Next(PyThreadState *state)
    int PyThreadState_SetAsyncExc(unsigned long thread_id, PyObject *exception)
    int PyErr_WarnExplicitObject(object category, object message, object filename,
                                 int lineno, object module,
                                 PyObject *registry) except -1
    int PySys_Audit(const char *event, const char *format, ...) except -1
    int PySlice_Unpack(object item, Py_ssize_t *start, Py_ssize_t *stop,
                       Py_ssize_t *step) except -1
    Py_ssize_t PySlice_AdjustIndices(Py_ssize_t length, Py_ssize_t *start,
                                     Py_ssize_t *stop, Py_ssize_t step)

cdef extern from "<dlfcn.h>":
    ctypedef struct Dl_info:
        const char *dli_fname
        const char *dli_sname
    int dladdr(const void *address, Dl_info *ret_info)

cdef extern from "<errno.h>":
    const int EHWPOISON

cdef extern from "<fcntl.h>":
    const int F_DUPFD_CLOEXEC
    const int F_GETFL
    const int F_GET_SEALS
    const int F_SEAL_SHRINK
    const int F_SEAL_WRITE

cdef extern from "<signal.h>":
    const int BUS_ADRERR
    const int BUS_MCEERR_AR
    const int BUS_MCEERR_AO

cdef extern from "<sys/mman.h>":
    const int MADV_HUGEPAGE
    const int MAP_FIXED
    const int MREMAP_MAYMOVE
    const int MAP_HUGETLB

cdef extern from "<linux/mman.h>":
    const int MAP_HUGE_SHIFT
    const int MAP_HUGE_MASK

cdef extern from "<sys/vfs.h>":
    ctypedef struct struct_statfs "struct statfs":
        long f_type
        size_t f_bsize
    int fstatfs(int fd, struct_statfs *status)

cdef extern from "<linux/magic.h>":
    const long HUGETLBFS_MAGIC

cdef extern from "<sys/prctl.h>":
    int prctl(int option, ...)

cdef extern from *:
    """
    #ifndef PR_SET_VMA /* headers before Linux 5.17 */
    #define PR_SET_VMA 0x53564d41
    #define PR_SET_VMA_ANON_NAME 0
    #endif
    """
    const int PR_SET_VMA
    const int PR_SET_VMA_ANON_NAME

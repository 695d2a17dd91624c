/* An extension module of somebody else's, in C: pools that a peer may shrink.
 * Compiled in two files (native_total.c is the other), which share one import. */
#include <safemmap_python.h>

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "native.h"

struct pool {
    PyObject ob_base;
    struct safemmap_region region;
    const unsigned char *map;
    volatile int hook_calls;
};

static void
on_fault(void *data, const struct safemmap_region_fault *fault)
{
    (void)fault;
    ((struct pool *)data)->hook_calls++;
}

static PyObject *
pool_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    struct pool *pool;
    const char *name;
    Py_ssize_t size;
    void *map;
    int fd, error, registered = 1;

    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "ins|p", &fd, &size, &name, &registered))
        return NULL;
    map = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return PyErr_SetFromErrno(PyExc_OSError);
    pool = (struct pool *)type->tp_alloc(type, 0);
    if (pool == NULL)
        return NULL;
    pool->map = map;
    pool->region = (struct safemmap_region){
        .start = (uintptr_t)map,
        .end = (uintptr_t)map + (size_t)size,
        .page_size = (size_t)sysconf(_SC_PAGESIZE),
        .protection = PROT_READ,
        .fd = -1,
        .hook = on_fault,
        .hook_data = pool,
    };
    PyOS_snprintf(pool->region.name, SAFEMMAP_NAME, "%s", name);
    Py_BEGIN_ALLOW_THREADS error = registered ? safemmap_install() : 0;
    if (registered && error == 0)
        error = safemmap_region_add(&pool->region);
    Py_END_ALLOW_THREADS if (error < 0)
    {
        errno = -error;
        Py_DECREF(pool);
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return (PyObject *)pool;
}

static void
pool_dealloc(PyObject *self)
{
    struct pool *pool = (struct pool *)self;

    safemmap_region_remove(&pool->region);
    munmap((void *)pool->map, pool->region.end - pool->region.start);
    Py_TYPE(self)->tp_free(self);
}

/* Without a guard: the region gets zeros. */
static PyObject *
pool_peek(PyObject *self, PyObject *offset)
{
    struct pool *pool = (struct pool *)self;
    Py_ssize_t at = PyNumber_AsSsize_t(offset, PyExc_IndexError);

    if (at == -1 && PyErr_Occurred())
        return NULL;
    return PyLong_FromLong(((volatile const unsigned char *)pool->map)[at]);
}

static PyObject *
pool_check(PyObject *self, PyObject *unused)
{
    struct pool *pool = (struct pool *)self;

    (void)unused;
    if (safemmap_region_poisoned(&pool->region))
        return safemmap_raise_region(&pool->region, "check");
    return PyLong_FromLong(pool->hook_calls);
}

static PyObject *
pool_total(PyObject *self, PyObject *unused)
{
    struct pool *pool = (struct pool *)self;

    (void)unused;
    return native_total(pool->map, pool->region.end - pool->region.start);
}

static PyObject *
pool_load(PyObject *self, PyObject *offset)
{
    struct pool *pool = (struct pool *)self;
    Py_ssize_t at = PyNumber_AsSsize_t(offset, PyExc_IndexError);
    struct safemmap_fault fault;
    unsigned char byte;

    if (at == -1 && PyErr_Occurred())
        return NULL;
    if (safemmap_load(pool->map + at, &byte, &fault) < 0)
        return safemmap_raise(&fault, pool->map,
                              pool->region.end - pool->region.start, "load");
    return PyLong_FromLong(byte);
}

static PyObject *
pool_resize(PyObject *self, PyObject *size)
{
    struct pool *pool = (struct pool *)self;
    size_t bytes = PyLong_AsSize_t(size);
    int error;

    error = safemmap_region_update(&pool->region, pool->region.start,
                                   pool->region.start + bytes);
    return PyLong_FromLong(error);
}

static PyObject *
pool_register(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(safemmap_region_add(&((struct pool *)self)->region));
}

/* To another mapping of the same file. */
static PyObject *
pool_move(PyObject *self, PyObject *unused)
{
    struct pool *pool = (struct pool *)self;
    size_t size = pool->region.end - pool->region.start;
    void *old = (void *)pool->map, *map = mremap(old, 0, size, MREMAP_MAYMOVE);
    int error;

    (void)unused;
    if (map == MAP_FAILED)
        return PyErr_SetFromErrno(PyExc_OSError);
    error =
        safemmap_region_update(&pool->region, (uintptr_t)map, (uintptr_t)map + size);
    munmap(error < 0 ? map : old, size);
    if (error == 0)
        pool->map = map;
    return PyLong_FromLong(error);
}

static PyMethodDef methods[] = {{"peek", pool_peek, METH_O, NULL},
                                {"check", pool_check, METH_NOARGS, NULL},
                                {"total", pool_total, METH_NOARGS, NULL},
                                {"load", pool_load, METH_O, NULL},
                                {"resize", pool_resize, METH_O, NULL},
                                {"register", pool_register, METH_NOARGS, NULL},
                                {"move", pool_move, METH_NOARGS, NULL},
                                {NULL, NULL, 0, NULL}};

static PyTypeObject pool_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "native.Pool",
    .tp_basicsize = sizeof(struct pool),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = pool_new,
    .tp_dealloc = pool_dealloc,
    .tp_methods = methods,
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "native",
                                        .m_size = -1};

PyMODINIT_FUNC
PyInit_native(void)
{
    PyObject *module;

    if (safemmap_import() < 0 || PyType_Ready(&pool_type) < 0)
        return NULL;
    module = PyModule_Create(&definition);
    if (module != NULL &&
        PyModule_AddObjectRef(module, "Pool", (PyObject *)&pool_type) < 0)
        Py_CLEAR(module);
    return module;
}

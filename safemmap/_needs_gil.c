/* A module that does not declare that it does without the GIL: a build of the
 * interpreter that can do without turns it on to import this. */
#include <Python.h>

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "safemmap._needs_gil",
};

PyMODINIT_FUNC
PyInit__needs_gil(void)
{
    return PyModuleDef_Init(&module);
}

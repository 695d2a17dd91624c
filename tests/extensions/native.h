#include <Python.h>

PyObject *native_total(const unsigned char *map, size_t size);

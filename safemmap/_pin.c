/* Short reads without a lock, for builds of the interpreter without a GIL. */
#include "_pin.h"

#ifdef Py_GIL_DISABLED

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

__thread struct safemmap_pin *safemmap__pin;

/* Of all threads. The list only grows; no thread has more than one. */
static struct safemmap_pin *pins;
static pthread_key_t key;
static bool prepared;

static void
give_back(struct safemmap_pin *pin)
{
    __atomic_store_n(&pin->mapping, NULL, __ATOMIC_RELEASE);
    __atomic_store_n(&pin->owned, false, __ATOMIC_RELEASE);
}

static void
end_thread(void *pin)
{
    safemmap__pin = NULL;
    give_back(pin);
}

static void
after_fork_in_child(void)
{
    struct safemmap_pin *pin = __atomic_load_n(&pins, __ATOMIC_SEQ_CST);

    for (; pin != NULL; pin = pin->next)
        if (pin != safemmap__pin)
            give_back(pin);
}

/* As the module is loaded: a fork that has begun by the first read would not know of
 * what is registered then. */
__attribute__((constructor)) static void
prepare(void)
{
    prepared = pthread_key_create(&key, end_thread) == 0 &&
               pthread_atfork(NULL, NULL, after_fork_in_child) == 0;
}

static bool
take(struct safemmap_pin *pin)
{
    bool owned = false;

    return __atomic_compare_exchange_n(&pin->owned, &owned, true, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static struct safemmap_pin *
add(void)
{
    struct safemmap_pin *pin =
        aligned_alloc(_Alignof(struct safemmap_pin), sizeof *pin);

    if (pin == NULL)
        return NULL;
    *pin = (struct safemmap_pin){.owned = true};
    pin->next = __atomic_load_n(&pins, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&pins, &pin->next, pin, true,
                                        __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        ;
    return pin;
}

struct safemmap_pin *
safemmap__own_pin(void)
{
    struct safemmap_pin *pin;

    if (!prepared)
        return NULL;
    for (pin = __atomic_load_n(&pins, __ATOMIC_ACQUIRE); pin != NULL; pin = pin->next)
        if (take(pin))
            break;
    if (pin == NULL && (pin = add()) == NULL)
        return NULL;
    if (pthread_setspecific(key, pin) != 0) {
        give_back(pin);
        return NULL;
    }
    return safemmap__pin = pin;
}

void
safemmap_begin(safemmap__change *change, PyObject *mapping, int *changes)
{
    /* A read takes less than that, unless its page has to come from a disk. */
    const struct timespec moment = {.tv_nsec = 10 * 1000};
    struct safemmap_pin *pin;

    *change = changes;
    __atomic_fetch_add(changes, 1, __ATOMIC_SEQ_CST);
    for (pin = __atomic_load_n(&pins, __ATOMIC_SEQ_CST); pin != NULL; pin = pin->next)
        while (__atomic_load_n(&pin->mapping, __ATOMIC_SEQ_CST) == mapping)
            nanosleep(&moment, NULL);
}

#endif

/* What a kernel must give, with its C library. platform.c picks the file that does
 * so. Not installed. */
#ifndef SAFEMMAP_OS_H
#define SAFEMMAP_OS_H

#include <pthread.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#pragma GCC visibility push(hidden)

#include "safemmap.h"

/* glibc can allocate at the first use of a thread-local variable of a library
 * that was loaded late, and the handler may be that first use; initial-exec
 * variables are there from the thread's start. musl never allocates there, and
 * refuses the model in such a library. */
#ifdef __GLIBC__
#define SAFEMMAP__TLS _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define SAFEMMAP__TLS _Thread_local
#endif

/* The system's, a power of two. */
extern uintptr_t safemmap__page_size;

/* All of these may be called in the handler, but for the last one. */

/* Whether this thread has a shadow stack, which checks each return. */
bool safemmap__os_has_shadow_stack(void);

/* ---- Memory that may be gone -------------------------------------------- */

/* Copies memory of this process, without a signal where a page is gone on either
 * side. Returns how many bytes came before that, or a negative errno: -EPERM or
 * -ENOSYS where a sandbox forbids it. */
ssize_t safemmap__os_transfer(const struct iovec *target, size_t targets,
                              const struct iovec *source, size_t sources);
/* How many bytes from `source` on could be read. */
size_t safemmap__os_read(void *target, uintptr_t source, size_t size);
/* Whether a read would not fault, as far as the kernel tells. */
bool safemmap__os_is_readable(uintptr_t address);
/* Whether a store would not fault; false also where the kernel does not tell (Linux
 * before 5.14). It may give the page memory. */
bool safemmap__os_is_writable(uintptr_t address);

/* ---- Waiting ------------------------------------------------------------ */

/* Sleeps while another thread, whose number the word holds, has the lock, and lends
 * it this thread's priority. True: the lock has been handed over; false: try again.
 */
bool safemmap__os_wait_for_lock(int *word);
/* Gives a lock of this thread's to one that waits for it. */
void safemmap__os_hand_over_lock(int *word);

/* Sleeps until safemmap__os_wake_all(), if the word has this value; or for less. */
void safemmap__os_sleep_while(unsigned *word, unsigned value);
void safemmap__os_wake_all(unsigned *word);

/* ---- Pages -------------------------------------------------------------- */

/* Address space that nothing can be read from. */
int safemmap__os_reserve(size_t size, uintptr_t *ret_start);
void safemmap__os_release(uintptr_t start, size_t size);
/* Moves pages, and leaves empty ones of the same file behind, so that an access
 * meanwhile gets the file's content, or faults. */
int safemmap__os_move_pages(uintptr_t from, uintptr_t to, size_t size);

/* ---- Signals ------------------------------------------------------------ */

/* sigaction(2) for SIGBUS, with safemmap__sigaction_restorer() where the processor
 * has one: 0 or a negative errno. */
int safemmap__os_set_action(const struct sigaction *action,
                            struct sigaction *ret_replaced);
/* Whether kill(2), raise(3) or the like of this process sent it. */
bool safemmap__os_sent_by_us(const siginfo_t *info);
/* Sends the calling thread a SIGBUS once more, as it came. */
void safemmap__os_send_again(siginfo_t *info);
/* The kernel's number for the calling thread. */
pid_t safemmap__os_thread(void);

/* Whether a fault with this si_code says that the hardware has lost the memory. */
bool safemmap__os_is_poison(int code);
/* How much around the address is lost, a power of two; 0 for every other fault. */
uintptr_t safemmap__os_poisoned_size(const siginfo_t *info);
/* Whether the kernel reports lost memory that the thread has not touched yet. */
bool safemmap__os_is_early(const siginfo_t *info);

/* ---- A descriptor that is readable or not ------------------------------- */

/* A new one, unreadable, or a negative errno. */
int safemmap__os_event_new(void);
/* The program may close the number, and open a file under it, into which we must not
 * write. False also for negative numbers. */
bool safemmap__os_event_is(int number);
void safemmap__os_event_set(int number);
void safemmap__os_event_clear(int number);
/* Puts a new one in the place of one that is shared with another process: `number`,
 * or -1 if there is none to be had. */
int safemmap__os_event_renew(int number);

/* ---- Handlers that are installed late ----------------------------------- */

/* Has libwayland-server, if the process has loaded it, install its handler first.
 * Runs foreign code. */
void safemmap__os_precede_wayland(void);

#pragma GCC visibility pop

#endif

/* The interface to a kernel and its C library. platform.c picks the files. Another
 * BSD is one file beside bsd.c; any other kernel needs some like
 * linux{,_memory,_maps,_copies}.c, and a look at SAFEMMAP__TLS below, and at the
 * conditions in arch/arch.h. Not installed. */
#ifndef SAFEMMAP_OS_H
#define SAFEMMAP_OS_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#pragma GCC visibility push(hidden)

#include "safemmap.h"

/* glibc can allocate at the first use of a thread-local variable of a library
 * that was loaded late, and the handler may be that first use; initial-exec
 * variables are there from the thread's start. So it is on FreeBSD and NetBSD. musl
 * never allocates there, and refuses the model in such a library. (macOS and OpenBSD
 * have no such model.) */
#if defined(__GLIBC__) || defined(__FreeBSD__) || defined(__NetBSD__)
#define SAFEMMAP__TLS _Thread_local __attribute__((tls_model("initial-exec")))
#else
#define SAFEMMAP__TLS _Thread_local
#endif

/* Where no memory is reported as poisoned, there is no error for it. */
#ifndef EHWPOISON
#define EHWPOISON EFAULT
#endif

/* Runs while the program or the library with this copy is loaded, before its own
 * constructors and those of C++ objects, which may use what is in here. */
#define SAFEMMAP__CONSTRUCTOR __attribute__((constructor(101)))

/* As memchr(3), but the last. */
const void *safemmap__os_memrchr(const void *text, int byte, size_t size);

/* The system's, a power of two. */
extern uintptr_t safemmap__page_size;

/* All of these may be called in the handler, but for those that say otherwise. */

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

/* ---- Waiting ------------------------------------------------------------ */

/* Sleeps while another thread, whose number the word holds, has the lock, and lends
 * it this thread's priority. True: the lock has been handed over; false: try again.
 */
bool safemmap__os_wait_for_lock(int *word);
/* The part of the word that is the number. */
enum { SAFEMMAP__OS_HOLDER = 0x3fffffff };
/* Gives a lock of this thread's to one that waits for it. */
void safemmap__os_hand_over_lock(int *word);

/* Sleeps until safemmap__os_wake_all(), if the word has this value; or for less. */
void safemmap__os_sleep_while(unsigned *word, unsigned value);
void safemmap__os_wake_all(unsigned *word);

/* ---- Pages -------------------------------------------------------------- */

/* Reserves address space without access. */
int safemmap__os_reserve(size_t size, uintptr_t *ret_start);
void safemmap__os_release(uintptr_t start, size_t size);
/* As mmap(2), in the place of what is mapped there. */
int safemmap__os_map_again(uintptr_t start, size_t size, int protection, int flags,
                           int fd, off_t offset);
/* Moves pages, and leaves empty ones of the same file behind, so that an access
 * meanwhile gets the file's content, or faults. */
int safemmap__os_move_pages(uintptr_t from, uintptr_t to, size_t size);

/* ---- Room for mappings -------------------------------------------------- */

/* A process may have so many mappings. These two keep some in reserve; the caller
 * holds safemmap__pages. The first does nothing where all are there. The second lets
 * go of them, if it was for the want of them that a call failed so; true: try again,
 * and then have them set aside anew. */
int safemmap__os_set_mappings_aside(void);
/* Whether all are there, for a caller that does not hold it. */
bool safemmap__os_mappings_are_aside(void);
bool safemmap__os_give_mappings(int error);

/* ---- Memory in the place of other ---------------------------------------- */

/* A new file in memory, of `size` bytes, or as many times `least` as the process is
 * allowed; it never becomes longer again. Returns a descriptor, or a negative errno.
 */
int safemmap__os_memory_file(uint64_t least, uint64_t size, uint64_t *ret_size);
/* Nothing happens if it is shorter. */
int safemmap__os_cut(int fd, uint64_t size);

/* These replace whatever is mapped there: by a part of a file; by memory without a
 * file; by what lies so many bytes after a source. That is a page of a file, mapped
 * beforehand, which is all that is needed where the other two are refused. */
int safemmap__os_map_file(uintptr_t start, size_t size, int protection, int fd,
                          uint64_t offset);
int safemmap__os_map_anonymous(uintptr_t start, size_t size, int protection);
int safemmap__os_map_duplicate(uintptr_t start, size_t size, int protection,
                               uintptr_t source, size_t skipped);
int safemmap__os_map_source(int fd, uint64_t offset, uintptr_t *ret_source);
/* Whether a sandbox allows any of these: 0, or a negative errno. */
int safemmap__os_may_map(void);
/* Whether the kernel maps memory without a file at all. */
int safemmap__os_try_anonymous(void);

/* ---- Files -------------------------------------------------------------- */

/* As open(2), to read, read(2) and close(2), in which a thread cannot be cancelled.
 */
int safemmap__os_open(const char *path);
ssize_t safemmap__os_read_file(int fd, void *target, size_t size);
void safemmap__os_close(int fd);
/* Gives the memory of a part of a file back, whose bytes are 0 from then on. */
void safemmap__os_punch(int fd, uint64_t offset, uint64_t size);

/* ---- The mappings of the process ---------------------------------------- */

/* A descriptor of their list, which must be opened anew in a forked child, and when
 * that thread has ended (0: none). */
int safemmap__os_maps_open(pid_t *ret_thread);

struct safemmap__mapping {
    uintptr_t start, end;
    uint64_t offset; /* in the file */
    dev_t device;
    ino_t inode; /* 0: of no file */
    size_t page_size;
    int protection;
};
/* Room for any name of a file. */
enum { SAFEMMAP__PATH = 4096 };

/* The mapping that holds the address: 0, or a negative errno. Fills `ret_path`,
 * unless NULL, with the name of its file, or an empty one. One caller at a time. */
int safemmap__os_mapping_at(int fd, uintptr_t address, struct safemmap__mapping *ret,
                            char *ret_path);
/* The first one from there on that is executable, and a file's. */
int safemmap__os_next_executable(int fd, uintptr_t address,
                                 struct safemmap__mapping *ret);
/* Calls `visit` for each that overlaps the range, with the name of its file, which
 * has room in `path`. 0, or a negative errno. Not in the handler. */
typedef void safemmap__mapping_visitor(const struct safemmap__mapping *mapping,
                                       const char *path, void *context);
int safemmap__os_mappings_visit(int fd, uintptr_t start, uintptr_t end, char *path,
                                safemmap__mapping_visitor *visit, void *context);
/* Some measure of all that is executable; 0: not known. */
uint64_t safemmap__os_executable_size(void);

/* Whether it is memory like any other: no device's, nor a buffer that the kernel
 * shares. The page may be taken into core dumps from now on. */
bool safemmap__os_is_ordinary(uintptr_t page, size_t page_size);
/* Whether an access would fault. Brings in the page. */
enum safemmap__presence { SAFEMMAP__PRESENT, SAFEMMAP__LOST, SAFEMMAP__UNCERTAIN };
enum safemmap__presence safemmap__os_presence(uintptr_t page, size_t page_size,
                                              bool store);

struct safemmap__file_status {
    dev_t device;
    ino_t inode;
    int64_t size;
    bool regular;
};
int safemmap__os_file_of(const char *path, struct safemmap__file_status *ret);

/* ---- Signals ------------------------------------------------------------ */

/* Whether the kernel sent it for an access to memory, by whatever code. */
bool safemmap__os_is_fault(const siginfo_t *info);
/* The signals that the interrupted code blocked, and will again. */
sigset_t *safemmap__os_mask_of(ucontext_t *context);
bool safemmap__os_mask_is_empty(const sigset_t *mask);
/* sigaction(2) for SIGBUS, with safemmap__sigaction_restorer() where the processor
 * has one: 0 or a negative errno. */
int safemmap__os_set_action(const struct sigaction *action,
                            struct sigaction *ret_replaced);
/* Whether kill(2), raise(3) or the like of this process sent it. */
bool safemmap__os_sent_by_us(const siginfo_t *info);
/* Sends the calling thread a SIGBUS once more, as it came. */
void safemmap__os_send_again(siginfo_t *info);
/* Blocks all signals for the calling thread, for a moment: also the one by which a C
 * library cancels a thread at any instruction, and which its own functions leave out.
 * All but SIGSYS: where a sandbox has its handler emulate system calls, the kernel
 * kills a thread that blocks it. (It kills for the other signals of a thread's own
 * faults, too: the code that blocks them has none.) */
int safemmap__os_block_signals(sigset_t *ret_before);
void safemmap__os_restore_signals(const sigset_t *before);
/* The same for a thread that starts meanwhile, and keeps the mask: not those of the C
 * library, by which it has all threads change their user, and waits for them. */
int safemmap__os_block_signals_of_new_thread(sigset_t *ret_before);
/* Whether the process has no other thread. False where the system does not tell. */
bool safemmap__os_is_only_thread(void);
/* Whether the process has no other thread any more, the first one included. */
bool safemmap__os_is_last_thread(void);
/* The kernel's number for the calling thread. */
pid_t safemmap__os_thread(void);
/* Whether this process has a thread of that number. False where the system does not
 * tell. */
bool safemmap__os_has_thread(pid_t thread);

/* Whether a fault with this si_code says that the hardware has lost the memory. */
bool safemmap__os_is_poison(int code);
/* How much around the address is lost, a power of two; 0 for every other fault. */
uintptr_t safemmap__os_poisoned_size(const siginfo_t *info);
/* Whether the kernel reports lost memory that the thread has not touched yet. */
bool safemmap__os_is_early(const siginfo_t *info);

/* ---- Threads ------------------------------------------------------------ */

/* The clock that safemmap__os_condition_init() has conditions wait by. */
extern const clockid_t safemmap__os_condition_clock;
void safemmap__os_condition_init(pthread_cond_t *condition);

/* ---- A descriptor that is readable or not ------------------------------- */

/* A new one, unreadable, or a negative errno. */
int safemmap__os_event_new(void);
/* Whether it is one of these: the program may close the number, and open a file under
 * it, which we must not touch. False also for negative numbers. */
bool safemmap__os_event_is(int number);
void safemmap__os_event_set(int number);
void safemmap__os_event_clear(int number);
/* Puts a new one in the place of one that is shared with another process: `number`,
 * or -1 if there is none to be had. */
int safemmap__os_event_renew(int number);

/* ---- Copies of this library ---------------------------------------------- */

struct safemmap__copy;
/* The one of this process of which the function is an entry point, and which; or
 * NULL. Not in the handler. */
const struct safemmap__copy *safemmap__os_copy_of(uintptr_t function,
                                                  size_t *ret_entry);
/* Calls `visit` for each copy that the process has loaded. Not in the handler. */
typedef void safemmap__copy_visitor(const struct safemmap__copy *copy, void *context);
void safemmap__os_copies_visit(safemmap__copy_visitor *visit, void *context);
/* Keeps the library or program that this function belongs to loaded. Not in the
 * handler. */
void safemmap__os_stay_loaded(void);

/* ---- Handlers that are installed late ----------------------------------- */

/* Has libwayland-server, if the process has loaded it, install its handler first.
 * Runs foreign code. */
void safemmap__os_precede_wayland(void);
/* In the child of a fork: never again looks whether it is loaded. A thread of the
 * parent's may have held the linker's lock. */
void safemmap__os_forget_wayland(void);

#pragma GCC visibility pop

#endif

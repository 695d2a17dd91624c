/* Runs in every context: picks the files for this processor and this kernel, so that
 * every build compiles the files of csrc/ itself and nothing else.
 */

/* With _FORTIFY_SOURCE glibc's longjmp checks where it goes, and can take a jump from
 * the handler's alternate stack to another for an error. */
#undef _FORTIFY_SOURCE

#include "arch/arch.h"
#include "os/os.h"

#include "arch/generic_call.c"
#if !SAFEMMAP__ASSEMBLY
#include "arch/generic_copy.c"
#elif defined(__x86_64__)
#include "arch/x86_64_call.c"
#include "arch/x86_64_copy.c"
#else
#include "arch/aarch64_call.c"
#include "arch/aarch64_copy.c"
#endif

#if SAFEMMAP__RESTORER
#include "arch/x86_64_restorer.c"
#else
#include "arch/generic_restorer.c"
#endif

/* Linux's contexts are the ones that are known. */
#if defined(__x86_64__) && defined(__linux__)
#include "arch/x86_64_context.c"
#elif defined(__aarch64__) && defined(__linux__)
#include "arch/aarch64_context.c"
#else
#include "arch/generic_context.c"
#endif

#if defined(__x86_64__)
#include "arch/x86_64_search.c"
#elif defined(__aarch64__) && !defined(__AARCH64EB__)
#include "arch/aarch64_search.c"
#else
#include "arch/generic_search.c"
#endif

#include "os/common.c"
#if !defined(__APPLE__)
#include "os/monotonic.c"
#endif
#if defined(__linux__)
#include "os/linux.c"
#include "os/linux_memory.c"
#include "os/linux_maps.c"
#include "os/linux_copies.c"
#include "os/wayland.c"
#else
#include "os/bsd.c"
#include "os/bsd_memory.c"
#if !defined(__APPLE__)
#include "os/pipe.c"
#endif
#if defined(__FreeBSD__)
#include "os/freebsd.c"
#elif defined(__NetBSD__)
#include "os/netbsd.c"
#include "os/no_memory_file.c"
#elif defined(__OpenBSD__)
#include "os/openbsd.c"
#include "os/no_memory_file.c"
#elif defined(__APPLE__)
#include "os/darwin.c"
#include "os/no_memory_file.c"
#else
#error "safemmap does not know this system: csrc/os/os.h has what it needs"
#endif
#endif

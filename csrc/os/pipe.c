/* Runs inside the signal and outside: a pipe, as FreeBSD, NetBSD and OpenBSD make it.
 */
#include "os.h"

#include <fcntl.h>
#include <unistd.h>

static int
open_pipe(int ret_ends[2])
{
    return pipe2(ret_ends, O_CLOEXEC | O_NONBLOCK) < 0 ? -errno : 0;
}

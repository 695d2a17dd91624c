/* Included before everything else: what headers before glibc 2.32 and Linux 5.17 do
 * not declare is gone. */
#include <linux/memfd.h>
#include <linux/prctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#undef MADV_POPULATE_READ
#undef MADV_POPULATE_WRITE
#undef MFD_NOEXEC_SEAL
#undef MREMAP_DONTUNMAP
#undef PR_SET_VMA
#undef PR_SET_VMA_ANON_NAME

/* Runs outside the signal: finds the copies of this library that the process has
 * loaded.
 *
 * Each copy leaves an ELF note in the program or the library that it is linked into.
 * The dynamic linker lists what is loaded, whether it exports anything or not, and
 * the notes tell where a copy has its struct safemmap__copy. It does not list what is
 * in another namespace (dlmopen(3)), but glibc finds the file that an address there
 * belongs to.
 *
 * A thread that loads a library may wait for one that is here, in a constructor; and
 * a child may have been forked meanwhile. So what is called later than that takes no
 * lock that is held while libraries are loaded, as dladdr(3) does.
 */
#include "../copies.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

struct safemmap__copy safemmap__copy;

#define NOTE_NAME "safemmap"
enum { NOTE_TYPE = 1 };

/* What it says is the distance from there to the struct. (No symbol in the note, so
 * that nothing has to be relocated in it.) */
__asm__(".pushsection .note.safemmap, \"a\", %note\n"
        ".balign 4\n"
        ".long 9, 8, 1\n" /* sizes of the name and of what follows; NOTE_TYPE */
        ".asciz \"" NOTE_NAME "\"\n"
        ".balign 4\n"
        ".quad safemmap__copy - .\n"
        ".popsection\n");

static size_t
aligned(size_t size, size_t alignment)
{
    return (size + alignment - 1) / alignment * alignment;
}

/* The copy that a note is of, or NULL. */
static const struct safemmap__copy *
copy_in(const ElfW(Nhdr) * note, const char *description)
{
    int64_t distance;

    if (note->n_type != NOTE_TYPE || note->n_namesz != sizeof(NOTE_NAME) ||
        note->n_descsz != sizeof(distance) ||
        memcmp(note + 1, NOTE_NAME, sizeof(NOTE_NAME)) != 0)
        return NULL;
    memcpy(&distance, description, sizeof(distance));
    return (const void *)((uintptr_t)description + (uintptr_t)distance);
}

struct visiting {
    safemmap__copy_visitor *visit;
    void *context;
};

static void
visit_notes(const char *at, const char *end, size_t alignment,
            const struct visiting *visiting)
{
    while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
        const ElfW(Nhdr) *note = (const void *)at;
        const char *description =
            at + sizeof(*note) + aligned(note->n_namesz, alignment);
        const struct safemmap__copy *copy;

        at = description + aligned(note->n_descsz, alignment);
        if (at > end)
            return;
        copy = copy_in(note, description);
        if (copy != NULL)
            visiting->visit(copy, visiting->context);
    }
}

static int
visit_object(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    for (size_t i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        const char *start = (const void *)(info->dlpi_addr + segment->p_vaddr);

        if (segment->p_type == PT_NOTE)
            visit_notes(start, start + segment->p_memsz,
                        segment->p_align == 8 ? 8 : 4, context);
    }
    return 0;
}

void
safemmap__os_copies_visit(safemmap__copy_visitor *visit, void *context)
{
    struct visiting visiting = {visit, context};

    dl_iterate_phdr(visit_object, &visiting);
}

struct wanted {
    uintptr_t function;
    const struct safemmap__copy *copy;
    size_t entry;
};

/* safemmap__copy_visitor */
static void
compare_entries(const struct safemmap__copy *copy, void *context)
{
    struct wanted *wanted = context;

    if (__atomic_load_n(&copy->host, __ATOMIC_ACQUIRE) == NULL)
        return;
    for (size_t i = 0; i < copy->entry_count; i++)
        if ((uintptr_t)copy->entries[i] == wanted->function) {
            wanted->copy = copy;
            wanted->entry = i;
        }
}

/* glibc's from 2.35 on, which takes no lock. (The headers may be older.) */
struct object {
    unsigned long long flags;
    const void *start;
    void *rest[16];
};
int safemmap__find_object(uintptr_t address,
                          struct object *ret_object) __asm__("_dl_find_object")
    __attribute__((weak));

/* The headers of the program or library that is mapped there; false: they are not in
 * memory. */
static bool
read_headers(const void *base, struct dl_phdr_info *ret_info)
{
    const ElfW(Ehdr) *header = base;
    const ElfW(Phdr) * segments, *segment;

    if (memcmp(header->e_ident, ELFMAG, SELFMAG) != 0)
        return false;
    segments = (const void *)((const char *)base + header->e_phoff);
    segment = segments;
    while (segment < segments + header->e_phnum && segment->p_type != PT_LOAD)
        segment++;
    if (segment == segments + header->e_phnum)
        return false;
    *ret_info = (struct dl_phdr_info){
        .dlpi_addr = (uintptr_t)base -
                     segment->p_vaddr / safemmap__page_size * safemmap__page_size,
        .dlpi_phdr = segments,
        .dlpi_phnum = header->e_phnum,
    };
    return true;
}

const struct safemmap__copy *
safemmap__os_copy_of(uintptr_t function, size_t *ret_entry)
{
    struct wanted wanted = {function, NULL, 0};
    struct visiting visiting = {compare_entries, &wanted};
    struct dl_phdr_info headers;
    struct object object;

    if (safemmap__find_object == NULL)
        dl_iterate_phdr(visit_object, &visiting);
    else if (safemmap__find_object(function, &object) == 0 &&
             read_headers(object.start, &headers))
        visit_object(&headers, sizeof(headers), &visiting);
    *ret_entry = wanted.entry;
    return wanted.copy;
}

void
safemmap__os_stay_loaded(void)
{
    Dl_info info;

    if (dladdr(&safemmap__copy, &info) != 0)
        (void)dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

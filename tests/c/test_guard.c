/* The guarded operations against a simple oracle: every byte, index and fault
 * address, for ranges around the edge of a page that is gone. */
#include "harness.h"

#ifndef OPERATIONS
#define OPERATIONS safemmap_guarded
#endif
static const struct safemmap_operations *const operations = &OPERATIONS;

/* ---- Pages of which some are gone -------------------------------------- */

#define MARGIN 64
#define FILLER 250

struct arena {
    unsigned char *start;
    const char *layout; /* for each page: 'g' is good, 'b' is gone */
    size_t size;
};

/* Good pages hold pattern() of their offset. */
static struct arena
arena_new(const char *layout)
{
    struct file good = file_new(strlen(layout)), gone = file_new(1);
    struct arena arena = {good.map, layout, good.pages * PAGE};

    for (size_t i = 0; i < good.pages; i++)
        if (layout[i] == 'b')
            CHECK(mmap(good.map + i * PAGE, PAGE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, gone.fd, 0) != MAP_FAILED);
    file_cut(&gone, 0);
    file_free(&gone);
    CHECK_CALL(close(good.fd));
    return arena;
}

static void
arena_free(const struct arena *arena)
{
    CHECK_CALL(munmap(arena->start, arena->size));
}

static bool
is_gone(const struct arena *arena, size_t offset)
{
    return arena->layout[offset >> page_shift] == 'b';
}

/* Bytes that an operation touches; `offset` is the lowest. */
struct range {
    const struct arena *arena;
    size_t offset;
    ptrdiff_t step;
    size_t count;
};

static struct range
bytes(const struct arena *arena, size_t offset, size_t count)
{
    return (struct range){arena, offset, 1, count};
}

static size_t
stride(const struct range *range)
{
    return (size_t)(range->step < 0 ? -range->step : range->step);
}

static size_t
last(const struct range *range)
{
    return range->offset + stride(range) * (range->count - 1);
}

/* What the operation is given: its first element, with a negative step the
 * highest. */
static unsigned char *
first(const struct range *range)
{
    return range->arena->start + (range->step < 0 ? last(range) : range->offset);
}

/* The oracle: the address to be reported, or 0. */
static uintptr_t
first_gone(const struct range *range)
{
    size_t at = range->offset;

    for (size_t i = 0; i < range->count; i++, at += stride(range))
        if (is_gone(range->arena, at)) {
            size_t page = at / PAGE * PAGE;

            return (uintptr_t)range->arena->start +
                   (page > range->offset ? page : range->offset);
        }
    return 0;
}

/* ---- What holds after every operation ---------------------------------- */

static struct safemmap_fault met;

/* Nothing is written but on a fault. */
#define RUN(call) (met = (struct safemmap_fault){1, -1}, (call))

static void
check_works(void)
{
    static const unsigned char source[8] = "source";
    unsigned char target[8];
    struct safemmap_fault fault;

    CHECK_EQ(operations->copy(target, source, sizeof(source), &fault), 0);
    CHECK_EQ(memcmp(target, source, sizeof(source)), 0);
}

static void
check_fault(uintptr_t address)
{
    CHECK_EQ(met.address, address);
    CHECK_EQ(met.code, BUS_ADRERR);
    check_works();
}

/* Whether the operation was to succeed, and did. */
static bool
check_result(int result, uintptr_t gone)
{
    CHECK_EQ(result, gone != 0 ? -EFAULT : 0);
    if (gone != 0) {
        check_fault(gone);
        return false;
    }
    CHECK_EQ(met.address, 1);
    CHECK_EQ(met.code, -1);
    return true;
}

static size_t
margin_start(const struct range *range)
{
    return range->offset < MARGIN ? 0 : range->offset - MARGIN;
}

static size_t
margin_end(const struct range *range)
{
    size_t end = last(range) + 1 + MARGIN;

    return end < range->arena->size ? end : range->arena->size;
}

static void
check_untouched(const struct range *range)
{
    size_t end = margin_end(range);

    for (size_t i = margin_start(range); i < end; i++)
        if (!is_gone(range->arena, i) && range->arena->start[i] != pattern(i))
            CHECK_EQ(range->arena->start[i], pattern(i));
}

static void
fill(const struct range *range)
{
    size_t end = margin_end(range);

    for (size_t i = margin_start(range); i < end; i++)
        if (!is_gone(range->arena, i))
            range->arena->start[i] = FILLER;
}

/* The target holds the source's elements, and filler in between and around. */
static void
check_copied(const struct range *target, const struct range *source)
{
    const unsigned char *from = first(source), *to = first(target);
    size_t end = margin_end(target);
    size_t others = end - margin_start(target) - target->count;

    for (size_t i = 0; i < target->count;
         i++, from += source->step, to += target->step)
        if (*to != *from)
            CHECK_EQ(*to, *from);
    for (size_t i = margin_start(target); i < end; i++)
        if (is_gone(target->arena, i) || target->arena->start[i] == FILLER)
            others--;
    CHECK_EQ(others, 0);
}

/* ---- The sweep --------------------------------------------------------- */

/* With the ranges below: gone is nothing, the first, the middle, the last. */
static const char *const layouts[] = {"ggggg", "bgggg", "gbggg", "ggbgg"};

typedef void one_case(const struct arena *arena, const struct arena *other,
                      size_t offset, size_t count);

/* Every start within 64 bytes before an edge, and on it, by every length to 200;
 * some are a page longer, so that there is a middle. */
static void
sweep(one_case *run, const struct arena *arena, const struct arena *other)
{
    const size_t step = BRIEF ? 7 : 1;

    for (size_t offset = PAGE - MARGIN; offset <= PAGE; offset++)
        for (size_t count = 1 + offset % step; count <= 200; count += step) {
            note.at[0] = (long)offset;
            note.at[1] = (long)count;
            run(arena, other, offset, count);
            if ((offset + count) % 16 == 0)
                run(arena, other, offset, count + PAGE);
        }
}

/* Over every pair of layouts. */
static void
sweep_pairs(one_case *run)
{
    for (size_t i = 0; i < COUNT_OF(layouts); i++)
        for (size_t j = 0; j < COUNT_OF(layouts); j++) {
            struct arena arena = arena_new(layouts[i]), other = arena_new(layouts[j]);

            note = NOTE("offset count layout layout", 0, 0, (long)i, (long)j);
            sweep(run, &arena, &other);
            arena_free(&arena);
            arena_free(&other);
        }
}

static void
sweep_single(one_case *run)
{
    for (size_t i = 0; i < COUNT_OF(layouts); i++) {
        struct arena arena = arena_new(layouts[i]);

        note = NOTE("offset count layout", 0, 0, (long)i);
        sweep(run, &arena, NULL);
        arena_free(&arena);
    }
}

/* ---- Copies ------------------------------------------------------------ */

static void
check_copy(const struct range *target, const struct range *source, int result)
{
    uintptr_t gone = first_gone(source);

    if (gone == 0)
        gone = first_gone(target);
    if (check_result(result, gone))
        check_copied(target, source);
    check_untouched(source);
}

static void
copy_case(const struct arena *arena, const struct arena *other, size_t offset,
          size_t count)
{
    struct range source = bytes(arena, offset, count);
    struct range target = bytes(other, PAGE - offset * 7 % MARGIN, count);

    fill(&target);
    check_copy(&target, &source,
               RUN(operations->copy(first(&target), first(&source), count, &met)));
}

static void
copy(void)
{
    sweep_pairs(copy_case);
}

/* The other side is memory of the program's own. */
static void
copy_out_case(const struct arena *arena, const struct arena *other, size_t offset,
              size_t count)
{
    struct range source = bytes(arena, offset, count);
    unsigned char target[200 + 65536];

    (void)other;
    if (count > sizeof(target))
        return;
    if (check_result(RUN(operations->copy(target, first(&source), count, &met)),
                     first_gone(&source)))
        CHECK_EQ(memcmp(target, first(&source), count), 0);
    check_untouched(&source);
}

static void
copy_in_case(const struct arena *arena, const struct arena *other, size_t offset,
             size_t count)
{
    struct range target = bytes(arena, offset, count);
    static unsigned char source[200 + 65536], untouched[sizeof(source)];

    (void)other;
    if (count > sizeof(source))
        return;
    memset(source, 7, sizeof(source));
    memset(untouched, 7, sizeof(untouched));
    if (check_result(RUN(operations->copy(first(&target), source, count, &met)),
                     first_gone(&target)))
        CHECK_EQ(memcmp(first(&target), source, count), 0);
    CHECK_EQ(memcmp(source, untouched, sizeof(source)), 0);
}

static void
copy_out_and_in(void)
{
    sweep_single(copy_out_case);
    sweep_single(copy_in_case);
}

/* Within one mapping, the ranges overlapping by more or less. */
static void
move_case(const struct arena *arena, const struct arena *other, size_t offset,
          size_t count)
{
    static const ptrdiff_t shifts[] = {-150, -33, -1, 1, 16, 170};

    (void)other;
    for (size_t i = 0; i < COUNT_OF(shifts); i++) {
        struct range source = bytes(arena, offset, count);
        struct range target = bytes(arena, offset + (size_t)shifts[i], count);
        uintptr_t gone = first_gone(&source);
        struct range both = {arena, offset < target.offset ? offset : target.offset,
                             1, count + (size_t)labs(shifts[i])};

        if (gone == 0)
            gone = first_gone(&target);
        if (check_result(
                RUN(operations->copy(first(&target), first(&source), count, &met)),
                gone))
            for (size_t j = 0; j < count; j++)
                if (first(&target)[j] != pattern(offset + j))
                    CHECK_EQ(first(&target)[j], pattern(offset + j));
        for (size_t j = margin_start(&both); j < margin_end(&both); j++)
            if (!is_gone(arena, j)) {
                bool inside = j >= target.offset && j <= last(&target);

                if (!inside && arena->start[j] != pattern(j))
                    CHECK_EQ(arena->start[j], pattern(j));
                arena->start[j] = pattern(j);
            }
    }
}

static void
move(void)
{
    sweep_single(move_case);
}

/* ---- Strides ----------------------------------------------------------- */

static ptrdiff_t step_under_test;

static void
gather_case(const struct arena *arena, const struct arena *other, size_t offset,
            size_t count)
{
    struct range source = {arena, offset, step_under_test, count % PAGE};
    struct range target = bytes(other, PAGE - offset * 7 % MARGIN, count % PAGE);

    if (source.count == 0)
        return;
    fill(&target);
    check_copy(&target, &source,
               RUN(operations->gather(first(&target), first(&source), source.step,
                                      source.count, &met)));
}

static void
scatter_case(const struct arena *arena, const struct arena *other, size_t offset,
             size_t count)
{
    struct range source = bytes(arena, PAGE - offset * 7 % MARGIN, count % PAGE);
    struct range target = {other, offset, step_under_test, count % PAGE};

    if (source.count == 0)
        return;
    fill(&target);
    check_copy(&target, &source,
               RUN(operations->scatter(first(&target), target.step, first(&source),
                                       target.count, &met)));
}

static void
small_steps(void)
{
    static const ptrdiff_t steps[] = {1, -1, 3, -7};
    /* Layouts of the side read and of the side written. */
    static const size_t pairs[][2] = {{2, 0}, {0, 2}, {2, 2}, {1, 2}, {0, 0}};

    for (size_t i = 0; i < COUNT_OF(steps); i++)
        for (size_t j = 0; j < COUNT_OF(pairs); j++) {
            struct arena read = arena_new(layouts[pairs[j][0]]);
            struct arena written = arena_new(layouts[pairs[j][1]]);

            step_under_test = steps[i];
            note = NOTE("offset count step pair", 0, 0, steps[i], (long)j);
            sweep(gather_case, &read, &written);
            for (size_t k = 0; k < read.size; k++)
                if (!is_gone(&written, k))
                    written.start[k] = pattern(k);
            sweep(scatter_case, &read, &written);
            arena_free(&read);
            arena_free(&written);
        }
}

/* Elements pages apart. In the last layouts many pages are gone that may hold
 * none of them. */
static void
large_steps(void)
{
    const ptrdiff_t page = (ptrdiff_t)PAGE;
    const ptrdiff_t steps[] = {page + 1, -(page + 1), page - 1,      1000,
                               2 * page, -2 * page,   3 * page + 17, -(page / 2)};
    char layout[4][64];
    const size_t pages = sizeof(layout[0]) - 1;

    memset(layout, 'g', sizeof(layout));
    for (size_t i = 0; i < COUNT_OF(layout); i++)
        layout[i][pages] = '\0';
    layout[1][30] = 'b';
    for (size_t i = 1; i < pages; i += 2) {
        layout[2][i] = 'b';
        layout[3][i - 1] = 'b';
    }

    for (size_t i = 0; i < COUNT_OF(layout); i++) {
        struct arena strided = arena_new(layout[i]), good = arena_new("ggggg");

        for (size_t j = 0; j < COUNT_OF(steps); j++) {
            step_under_test = steps[j];
            for (size_t offset = PAGE - MARGIN; offset <= PAGE; offset += 21)
                for (size_t count = 1; count <= 200; count += BRIEF ? 41 : 7) {
                    struct range range = {&strided, offset, steps[j], count};

                    if (last(&range) >= strided.size)
                        break;
                    note = NOTE("offset count step layout", (long)offset, (long)count,
                                steps[j], (long)i);
                    gather_case(&strided, &good, offset, count);
                    for (size_t k = 0; k < good.size; k++)
                        good.start[k] = pattern(k);
                    scatter_case(&good, &strided, offset, count);
                    for (size_t k = margin_start(&range); k < margin_end(&range); k++)
                        if (!is_gone(&strided, k))
                            strided.start[k] = pattern(k);
                }
        }
        arena_free(&strided);
        arena_free(&good);
    }
}

/* The target lies between two elements of the source: a fault on it is its own. */
static void
target_in_a_gap(void)
{
    struct arena arena = arena_new("ggbgg");
    struct range target = bytes(&arena, 2 * PAGE + 100, 5);

    CHECK(!check_result(RUN(operations->gather(first(&target), arena.start,
                                               (ptrdiff_t)PAGE - 5, 2, &met)),
                        first_gone(&target)));
    CHECK(!check_result(RUN(operations->gather(first(&target), arena.start,
                                               (ptrdiff_t)PAGE * 3, 2, &met)),
                        first_gone(&target)));
}

/* ---- Searches ---------------------------------------------------------- */

/* What is known without the pages that are gone: an index, -1 for nowhere, or
 * GONE where it depends on them. Bytes beyond the match are not touched; those
 * before it may be, or be skipped. */
#define GONE (-2)

struct outcome {
    ptrdiff_t index;
    bool may_fault;
};

static struct outcome
naive_find(const struct range *text, const unsigned char *needle, size_t size,
           bool backward)
{
    size_t places = text->count - size + 1;
    struct outcome outcome = {-1, false};

    for (size_t i = 0; i < places; i++) {
        size_t place = backward ? places - 1 - i : i, equal = 0, unknown = 0;

        for (size_t j = 0; j < size; j++)
            if (is_gone(text->arena, text->offset + place + j))
                unknown++;
            else
                equal += first(text)[place + j] == needle[j];
        outcome.may_fault = outcome.may_fault || unknown != 0;
        if (equal + unknown == size) {
            outcome.index = unknown == 0 ? (ptrdiff_t)place : GONE;
            break;
        }
    }
    return outcome;
}

static void
check_found(int result, const struct range *text, const ptrdiff_t *index,
            struct outcome want)
{
    if (want.may_fault && result != 0)
        want.index = GONE;
    if (check_result(result, want.index == GONE ? first_gone(text) : 0))
        CHECK_EQ(*index, want.index);
    else
        CHECK_EQ(*index, 12345);
}

/* The needle is put at a place before the edge, at one after it, at both, or
 * nowhere. */
static void
find_case(const struct arena *arena, const struct arena *other, size_t offset,
          size_t count)
{
    static const unsigned char needle[] = {201, 202, 203, 204, 205, 206, 207};
    struct range text = bytes(arena, offset, count);
    size_t size = 1 + (offset + count) % sizeof(needle);

    (void)other;
    if (size > count)
        return;
    size_t early = count > 100 ? MARGIN - size : 0, late = count - size;
    if (offset + early + size > PAGE)
        early = 0;
    for (int where = 0; where < 4; where++) {
        ptrdiff_t index;

        for (int side = 0; side < 2; side++) {
            size_t at = side == 0 ? early : late;

            for (size_t i = 0; i < size && (where >> side & 1) != 0; i++)
                if (!is_gone(arena, offset + at + i))
                    first(&text)[at + i] = needle[i];
        }
        note.at[3] = where;
        index = 12345;
        check_found(
            RUN(operations->find(first(&text), count, needle, size, &index, &met)),
            &text, &index, naive_find(&text, needle, size, false));
        index = 12345;
        check_found(
            RUN(operations->rfind(first(&text), count, needle, size, &index, &met)),
            &text, &index, naive_find(&text, needle, size, true));
        index = 12345;
        check_found(
            RUN(operations->find(first(&text), count, needle, 1, &index, &met)),
            &text, &index, naive_find(&text, needle, 1, false));
        for (size_t i = 0; i < count; i++)
            if (!is_gone(arena, offset + i))
                first(&text)[i] = pattern(offset + i);
    }
}

static void
find(void)
{
    sweep_single(find_case);
}

/* A needle of any length that ends on the last byte before the page that is
 * gone; rfind, one that begins on the first byte after it. */
static void
match_at_the_edge(void)
{
    struct arena arena = arena_new("gbg");
    unsigned char *end = arena.start + arena.size;

    for (size_t size = 1; size <= 600; size++) {
        unsigned char needle[600];
        ptrdiff_t index = -5;

        note = NOTE("size", (long)size);
        for (size_t i = 0; i < size; i++)
            needle[i] = (unsigned char)(200 + i % 50);
        for (size_t before = 0; before <= 700; before += 100) {
            unsigned char *at = arena.start + PAGE - size, *start = at - before;

            memcpy(at, needle, size);
            CHECK_EQ(RUN(operations->find(start, (size_t)(end - start), needle, size,
                                          &index, &met)),
                     0);
            CHECK_EQ(index, before);
            at = arena.start + 2 * PAGE;
            memcpy(at, needle, size);
            CHECK_EQ(RUN(operations->rfind(arena.start, 2 * PAGE + size + before,
                                           needle, size, &index, &met)),
                     0);
            CHECK_EQ(index, 2 * PAGE);
        }
        for (size_t i = 0; i < size; i++) {
            arena.start[PAGE - 1 - i] = pattern(PAGE - 1 - i);
            arena.start[2 * PAGE + i] = pattern(2 * PAGE + i);
        }
    }
}

/* One byte, at every distance from the start and from a page that is gone. */
static void
one_byte(void)
{
    struct arena arena = arena_new("gbg");
    const unsigned char needle = 251;

    for (size_t size = 1; size <= 600; size++) {
        unsigned char *text = arena.start + PAGE - size;
        ptrdiff_t index = -5;

        note = NOTE("size", (long)size);
        CHECK_EQ(operations->find(text, size, &needle, 1, &index, &met), 0);
        CHECK_EQ(index, -1);
        index = -5;
        CHECK(!check_result(
            RUN(operations->find(text, size + 100, &needle, 1, &index, &met)),
            (uintptr_t)arena.start + PAGE));
        CHECK_EQ(index, -5);
        for (size_t at = 0; at < size; at += at + 7 < size ? 7 : 1) {
            unsigned char before = text[at];

            text[at] = needle;
            CHECK_EQ(operations->find(text, size + 100, &needle, 1, &index, &met), 0);
            CHECK_EQ(index, at);
            CHECK_EQ(operations->find(text, at, &needle, 1, &index, &met), 0);
            CHECK_EQ(index, -1);
            text[at] = before;
        }
    }
}

/* What is looked for lies in a page that is gone; with the text gone too, that
 * is the side reported. An empty pattern touches nothing. */
static void
pattern_gone(void)
{
    struct arena arena = arena_new("gbg"), other = arena_new("gb");
    unsigned char *gone = other.start + PAGE;
    ptrdiff_t index = -5;

    for (size_t size = 1; size <= 40; size++) {
        CHECK(!check_result(RUN(operations->find(arena.start, PAGE, gone - size + 1,
                                                 size, &index, &met)),
                            (uintptr_t)gone));
        CHECK(!check_result(
            RUN(operations->find(arena.start, PAGE, gone + 7, size, &index, &met)),
            (uintptr_t)gone + 7));
        CHECK(!check_result(
            RUN(operations->rfind(arena.start, PAGE, gone + 7, size, &index, &met)),
            (uintptr_t)gone + 7));
        CHECK(!check_result(RUN(operations->find(arena.start + PAGE + 3, 90, gone + 7,
                                                 size, &index, &met)),
                            (uintptr_t)arena.start + PAGE + 3));
        CHECK_EQ(index, -5);
    }
    CHECK_EQ(operations->find(arena.start + PAGE, 9, gone, 0, &index, &met), 0);
    CHECK_EQ(index, 0);
    CHECK_EQ(operations->rfind(arena.start + PAGE, 9, gone, 0, &index, &met), 0);
    CHECK_EQ(index, 9);
    CHECK_EQ(operations->find(arena.start, 3, gone, 4, &index, &met), 0);
    CHECK_EQ(index, -1);
    CHECK_EQ(operations->rfind(arena.start, 3, gone, 4, &index, &met), 0);
    CHECK_EQ(index, -1);
}

/* ---- Comparison and single bytes --------------------------------------- */

static int
sign(int order)
{
    return (order > 0) - (order < 0);
}

static void
compare_case(const struct arena *arena, const struct arena *other, size_t offset,
             size_t count)
{
    struct range left = bytes(arena, offset, count);
    struct range right = bytes(other, offset, count);
    uintptr_t gone = first_gone(&left);
    int order = 99;

    if (gone == 0)
        gone = first_gone(&right);
    /* Equal as far as they go: all must be read. */
    if (check_result(RUN(operations->compare(first(&left), first(&right), count,
                                             &order, &met)),
                     gone))
        CHECK_EQ(order, 0);
    else
        CHECK_EQ(order, 99);

    size_t at = offset * 31 % count;
    if (is_gone(arena, offset + at) || is_gone(other, offset + at))
        return;
    first(&right)[at] = 255;
    for (int swap = 0; swap < 2; swap++) {
        const struct range *one = swap ? &right : &left, *two = swap ? &left : &right;
        uintptr_t either = first_gone(one);
        int result =
            RUN(operations->compare(first(one), first(two), count, &order, &met));

        if (either == 0)
            either = first_gone(two);
        /* It may read on after the difference, or not. */
        if (result == 0)
            CHECK_EQ(sign(order), swap ? 1 : -1);
        else
            check_result(result, either);
    }
    first(&right)[at] = pattern(offset + at);
    check_untouched(&left);
    check_untouched(&right);
}

static void
compare(void)
{
    sweep_pairs(compare_case);
}

static void
load_and_store(void)
{
    struct arena arena = arena_new("gbg");

    for (size_t offset = 0; offset < arena.size; offset++) {
        uintptr_t gone =
            is_gone(&arena, offset) ? (uintptr_t)arena.start + offset : 0;
        unsigned char byte = 251;

        note = NOTE("offset", (long)offset);
        if (check_result(RUN(operations->load(arena.start + offset, &byte, &met)),
                         gone))
            CHECK_EQ(byte, pattern(offset));
        else
            CHECK_EQ(byte, 251);
        if (check_result(RUN(operations->store(arena.start + offset, 252, &met)),
                         gone)) {
            CHECK_EQ(arena.start[offset], 252);
            arena.start[offset] = pattern(offset);
        }
    }
}

/* Nothing is touched where there is nothing to do. */
static void
empty(void)
{
    struct file gone = file_gone();
    int order = 99;
    ptrdiff_t index = 99;

    CHECK_EQ(operations->copy(gone.map, gone.map, 0, &met), 0);
    CHECK_EQ(operations->gather(gone.map, gone.map, -3, 0, &met), 0);
    CHECK_EQ(operations->scatter(gone.map, 3, gone.map, 0, &met), 0);
    CHECK_EQ(operations->compare(gone.map, gone.map, 0, &order, &met), 0);
    CHECK_EQ(order, 0);
    CHECK_EQ(operations->find(gone.map, 0, &order, 1, &index, &met), 0);
    CHECK_EQ(index, -1);
}

/* ---- Files that are not short ------------------------------------------ */

/* A hole in the middle of a file, on a filesystem that has no room to fill it. */
static void
hole_in_full_filesystem(void)
{
    unsigned char out[64] = {0}, byte;
    int other;
    struct file file = file_on_full_filesystem("dd-d", &other);

    uintptr_t hole = (uintptr_t)file.map + 2 * PAGE;
    CHECK(!check_result(RUN(operations->copy(out, file.map + 2 * PAGE - 9, 20, &met)),
                        hole));
    CHECK(!check_result(RUN(operations->copy(file.map + 2 * PAGE - 9, out, 20, &met)),
                        hole));
    CHECK(!check_result(RUN(operations->store(file.map + 2 * PAGE + 8, 3, &met)),
                        hole + 8));
    CHECK(!check_result(RUN(operations->load(file.map + 2 * PAGE + 8, &byte, &met)),
                        hole + 8));
    /* Every second page: the hole is stepped over, or on. */
    CHECK(check_result(
        RUN(operations->gather(out, file.map + PAGE, 2 * (ptrdiff_t)PAGE, 2, &met)),
        0));
    CHECK_EQ(memcmp(out, "dd", 2), 0);
    CHECK(!check_result(
        RUN(operations->gather(out, file.map, 2 * (ptrdiff_t)PAGE, 2, &met)), hole));

    /* There is room again. */
    CHECK_CALL(ftruncate(other, 0));
    CHECK(
        check_result(RUN(operations->load(file.map + 2 * PAGE + 8, &byte, &met)), 0));
    CHECK_EQ(byte, 0);
}

TEST_MAIN(TEST(copy), TEST(copy_out_and_in), TEST(move), TEST(small_steps),
          TEST(large_steps), TEST(target_in_a_gap), TEST(find),
          TEST(match_at_the_edge), TEST(one_byte), TEST(pattern_gone), TEST(compare),
          TEST(load_and_store), TEST(empty), TEST(hole_in_full_filesystem))

/* Searching, by vectors and without, against a loop that compares at every place. */
#include "harness.h"

static uint64_t random_state = 88172645463325252u;

static size_t
below(size_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)(random_state % limit);
}

static size_t
least(size_t left, size_t right)
{
    return left < right ? left : right;
}

static void
fill(unsigned char *bytes, size_t size, size_t letters)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)('a' + below(letters));
}

/* What repeats itself, with a flaw now and then. */
static void
fill_periodically(unsigned char *bytes, size_t size, size_t letters)
{
    size_t period = 1 + below(8);

    fill(bytes, period, letters);
    for (size_t i = period; i < size; i++)
        bytes[i] = below(200) == 0 ? 'z' : bytes[i - period];
}

static const unsigned char *
naive(const unsigned char *text, size_t size, const unsigned char *pattern,
      size_t pattern_size, bool backward)
{
    const size_t middle = pattern_size / 2;

    if (size < pattern_size)
        return NULL;
    for (size_t i = 0; i <= size - pattern_size; i++) {
        const unsigned char *at = text + (backward ? size - pattern_size - i : i);

        /* (The middle first: memcmp(3) of musl compares byte by byte, which would
         * take a minute where text and pattern repeat themselves.) */
        if (pattern_size == 0 ||
            (at[middle] == pattern[middle] && memcmp(at, pattern, pattern_size) == 0))
            return at;
    }
    return NULL;
}

static void
check(const unsigned char *text, size_t size, const unsigned char *pattern,
      size_t pattern_size)
{
    const bool vectors = safemmap__search_by_vectors;

    for (int by_vectors = 0; by_vectors <= vectors; by_vectors++) {
        safemmap__search_by_vectors = by_vectors;
        CHECK_EQ((const unsigned char *)safemmap__search_forward(text, size, pattern,
                                                                 pattern_size) -
                     text,
                 naive(text, size, pattern, pattern_size, false) - text);
        CHECK_EQ((const unsigned char *)safemmap__search_backward(text, size, pattern,
                                                                  pattern_size) -
                     text,
                 naive(text, size, pattern, pattern_size, true) - text);
    }
    safemmap__search_by_vectors = vectors;
}

/* Small texts in memory that ends behind them, so that a sanitizer sees what is read
 * beside them. */
static void
small(void)
{
    for (int round = 0; round < SCALED(60000); round++) {
        size_t size = below(300), pattern_size = below(12);
        unsigned char *text = malloc(size + 1), *pattern = malloc(pattern_size + 1);

        CHECK(text != NULL && pattern != NULL);
        text = realloc(text, size > 0 ? size : 1);
        fill(text, size, 1 + below(4));
        fill(pattern, pattern_size, 1 + below(3));
        note = NOTE("round size pattern", round, (long)size, (long)pattern_size);
        check(text, size, pattern, pattern_size);
        free(text);
        free(pattern);
    }
}

/* Every size around those of vectors and blocks, on pages with nothing beside them:
 * at either end a byte that is read too much is a fault. */
static void
on_pages(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = 2 * page;
    unsigned char *start = mmap(NULL, room + 2 * page, PROT_NONE,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                  pattern[100];

    CHECK(start != MAP_FAILED);
    start += page;
    CHECK(mprotect(start, room, PROT_READ | PROT_WRITE) == 0);
    for (size_t size = 1; size <= room; size += size < 700 ? 1 : 1 + below(200)) {
        for (int round = 0; round < SCALED(16); round++) {
            size_t length = 1 + below(least(size, round % 2 == 0 ? 12 : 100));
            unsigned char *text = round % 4 < 2 ? start : start + room - size;

            note = NOTE("size round length", (long)size, round, (long)length);
            fill(text, size, 1 + below(round < 8 ? 4 : 26));
            memcpy(pattern, text + below(size - length + 1), length);
            check(text, size, pattern, length);
            pattern[below(length)] = (unsigned char)('a' + below(5));
            check(text, size, pattern, length);
        }
    }
    CHECK(munmap(start - page, room + 2 * page) == 0);
}

/* Large enough for the two-way algorithm to come in, and to end again. */
static void
large(void)
{
    const size_t size = 300000;
    unsigned char *text = malloc(size), pattern[5000];

    CHECK(text != NULL);
    for (int round = 0; round < SCALED(300); round++) {
        size_t length = 2 + below(round % 4 == 0 ? sizeof(pattern) - 2 : 40);
        size_t letters = 1 + below(3);

        note = NOTE("round length letters", round, (long)length, (long)letters);
        fill_periodically(text, size, letters);
        if (round % 3 == 0)
            fill(pattern, length, letters);
        else
            memcpy(pattern, text + below(size - length), length);
        if (round % 3 == 1)
            pattern[below(length)] = 'z';
        check(text, size, pattern, length);
        /* At either end, and nowhere else. */
        pattern[length / 2] = '!';
        check(text, size, pattern, length);
        memcpy(text, pattern, length);
        check(text, size, pattern, length);
        memcpy(text + size - length, pattern, length);
        check(text, size, pattern, length);
    }
    free(text);
}

/* A text and a pattern for which comparing at every place would take a quarter of an
 * hour: each candidate agrees for thousands of bytes. That it ends is what is asked.
 */
static void
made_to_be_slow(void)
{
    const size_t size = (size_t)SCALED(32 << 20), pattern_size = 200000;
    unsigned char *text = malloc(size), *pattern = malloc(pattern_size);

    CHECK(text != NULL && pattern != NULL);
    for (size_t i = 0; i < size; i++)
        text[i] = i % 2 == 0 ? 'a' : 'b';
    memcpy(pattern, text, pattern_size);
    pattern[pattern_size / 2] ^= 'a' ^ 'b';
    CHECK(safemmap__search_forward(text, size, pattern, pattern_size) == NULL);
    CHECK(safemmap__search_backward(text, size, pattern, pattern_size) == NULL);
    free(text);
    free(pattern);
}

TEST_MAIN(TEST(small), TEST(on_pages), TEST(large), TEST(made_to_be_slow))

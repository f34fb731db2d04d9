#include "io/audio_container.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int container_open(const char *path, int *descriptor_p, int64_t *bytes_p, io_error *error)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0 || fstat(descriptor, &status) != 0) {
        io_fail(error, "%s: cannot be read: %s", path, strerror(errno));
    } else if (!S_ISREG(status.st_mode)) {
        io_fail(error, "%s: is %s; a regular file is needed", path,
                S_ISDIR(status.st_mode) ? "a folder" : "not a regular file");
    } else if (status.st_size == 0) {
        io_fail(error, "%s: is empty", path);
    } else {
        *descriptor_p = descriptor;
        *bytes_p = status.st_size;
        return 0;
    }
    if (descriptor >= 0) close(descriptor);
    return -1;
}

/* `size` bytes at `at`; false, with *error, where there are fewer. */
static bool read_at(int descriptor, const char *path, int64_t at, size_t size, unsigned char *target, io_error *error)
{
    while (size > 0) {
        const ssize_t got = pread(descriptor, target, size, at);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) {
            io_fail(error, "%s: %s%s", path, got < 0 ? "cannot be read: " : "truncated: it ends within its header",
                    got < 0 ? strerror(errno) : "");
            return false;
        }
        target += got;
        at += got;
        size -= (size_t)got;
    }
    return true;
}

int container_find(int descriptor, const char *path, int64_t bytes, audio_container *container_p, io_error *error)
{
    unsigned char magic[12] = {0};
    if (!read_at(descriptor, path, 0, bytes < 12 ? (size_t)bytes : 12, magic, error)) return -1;
    if (memcmp(magic, "fLaC", 4) == 0) *container_p = CONTAINER_FLAC;
    else if (memcmp(magic, "OggS", 4) == 0) *container_p = CONTAINER_OGG;
    else if ((memcmp(magic, "RIFF", 4) == 0 || memcmp(magic, "RIFX", 4) == 0 || memcmp(magic, "RF64", 4) == 0) &&
             memcmp(magic + 8, "WAVE", 4) == 0)
        *container_p = CONTAINER_WAV;
    else
        return io_fail(error, "%s: is not a WAV, FLAC or OGG file, by its first bytes; convert it to one of them",
                       path);
    return 0;
}

/* An integer of `size` bytes. */
static uint64_t number(const unsigned char *bytes, int size, bool big)
{
    uint64_t value = 0;
    for (int i = 0; i < size; i++) value = value << 8 | bytes[big ? i : size - 1 - i];
    return value;
}

/* A WAV file as far as it has been looked at. */
typedef struct {
    int descriptor;
    const char *path;
    int64_t bytes;
    bool big;                    /* endian */
    uint64_t form, long_samples; /* bytes of all chunks, by the head of the file; of RF64 also of the samples, else 0 */
    int64_t frame_bytes;         /* 0: not known yet */
} wav;

/* The format chunk: does libsndfile's idea of a frame hold? Only of formats with a fixed size of a sample. */
static int check_format(wav *w, int64_t body, uint64_t size, io_error *error)
{
    enum { PCM = 1, FLOAT = 3, ALAW = 6, ULAW = 7, EXTENSIBLE = 0xfffe };
    unsigned char format[16];
    if (size < sizeof format)
        return io_fail(error, "%s: its format ('fmt ' chunk) has %" PRIu64 " bytes, not 16 or more", w->path, size);
    if (!read_at(w->descriptor, w->path, body, sizeof format, format, error)) return -1;
    const int tag = (int)number(format, 2, w->big), channels = (int)number(format + 2, 2, w->big);
    const int align = (int)number(format + 12, 2, w->big), bits = (int)number(format + 14, 2, w->big);
    if (channels == 0) return io_fail(error, "%s: its header says that it has no channel", w->path);
    if (align == 0) return io_fail(error, "%s: its header says that a sample has no bytes", w->path);
    w->frame_bytes = align;
    if (tag != PCM && tag != FLOAT && tag != ALAW && tag != ULAW && tag != EXTENSIBLE) return 0;
    if (align != channels * ((bits + 7) / 8))
        return io_fail(error, "%s: its header contradicts itself: %d channels of %d bits in %d bytes", w->path,
                       channels, bits, align);
    return 0;
}

/* Of RF64: the sizes that do not fit 32 bits. */
static int read_long_sizes(wav *w, int64_t body, uint64_t size, io_error *error)
{
    unsigned char sizes[16];
    if (size < sizeof sizes) return 0;
    if (!read_at(w->descriptor, w->path, body, sizeof sizes, sizes, error)) return -1;
    if (w->form == UINT32_MAX) w->form = number(sizes, 8, false);
    w->long_samples = number(sizes + 8, 8, false);
    return 0;
}

/* What follows the samples are chunks, up to the end of the form: else the samples are more than their chunk says. So
 * they are in a file of more than 4 GiB whose writer counted in 32 bits, where the form ends early, too. */
static int check_rest(const wav *w, int64_t at, io_error *error)
{
    enum { MOST_BEHIND = 1 << 30 }; /* a tag or some padding behind the form is no harm */
    const int64_t all = w->bytes - 8;
    const int64_t form_end = 8 + (w->form < (uint64_t)all ? (int64_t)w->form : all);
    const int64_t end = form_end > at ? form_end : at, samples_end = at;
    unsigned char head[8];
    while (end - at > 1) {
        bool name = end - at >= 8;
        if (name && !read_at(w->descriptor, w->path, at, 8, head, error)) return -1;
        for (int i = 0; name && i < 4; i++) name = head[i] >= ' ' && head[i] <= '~';
        const uint64_t size = name ? number(head + 4, 4, w->big) : 0;
        if (!name || size > (uint64_t)(end - at - 8)) break;
        at += 8 + (int64_t)size + (int64_t)(size & 1);
    }
    if (end - at > 1 || w->bytes - end >= MOST_BEHIND)
        return io_fail(error,
                       "%s: its header contradicts itself: its samples end at byte %" PRId64
                       ", and what follows is not a part of a WAV file (one of more than 4 GiB has to be RF64); "
                       "convert it once more",
                       w->path, samples_end);
    return 0;
}

static int check_samples(const wav *w, int64_t body, uint64_t size, io_error *error)
{
    const uint64_t promised = w->long_samples > 0 && size == UINT32_MAX ? w->long_samples : size;
    const int64_t left = w->bytes - body;
    if (w->frame_bytes == 0) return io_fail(error, "%s: has samples ahead of their format ('fmt ' chunk)", w->path);
    if (promised == 0)
        return io_fail(error,
                       "%s: holds no samples, by its header; %" PRId64
                       " bytes follow it (if it was streamed and never completed, convert it once more)",
                       w->path, left);
    if (promised > (uint64_t)left)
        return io_fail(error,
                       "%s: truncated: its header promises %" PRIu64 " bytes of samples, there are %" PRId64
                       " (or it was streamed and never completed: convert it once more)",
                       w->path, promised, left);
    if (promised % (uint64_t)w->frame_bytes != 0)
        return io_fail(error, "%s: its %" PRIu64 " bytes of samples are not a multiple of the %" PRId64 " of each",
                       w->path, promised, w->frame_bytes);
    return check_rest(w, body + (int64_t)promised + (int64_t)(promised & 1), error);
}

/* Chunk by chunk. */
static int check_wav(int descriptor, const char *path, int64_t bytes, io_error *error)
{
    unsigned char head[12];
    if (!read_at(descriptor, path, 0, 12, head, error)) return -1;
    const bool big = memcmp(head, "RIFX", 4) == 0, long_form = memcmp(head, "RF64", 4) == 0;
    wav w = {.descriptor = descriptor, .path = path, .bytes = bytes, .big = big, .form = number(head + 4, 4, big)};
    for (int64_t at = 12;;) {
        if (bytes - at < 8)
            return io_fail(error, "%s: truncated: it ends ahead of its samples, which no 'data' chunk begins", path);
        if (!read_at(descriptor, path, at, 8, head, error)) return -1;
        const uint64_t size = number(head + 4, 4, big);
        const int64_t body = at + 8, left = bytes - body;
        if (memcmp(head, "data", 4) == 0) return check_samples(&w, body, size, error);
        if (memcmp(head, "fmt ", 4) == 0 && check_format(&w, body, size, error)) return -1;
        if (memcmp(head, "ds64", 4) == 0 && long_form && read_long_sizes(&w, body, size, error)) return -1;
        if (size > (uint64_t)left)
            return io_fail(error,
                           "%s: truncated: a part of its header promises %" PRIu64 " bytes, %" PRId64 " are left", path,
                           size, left);
        at = body + (int64_t)size + (int64_t)(size & 1);
    }
}

static int check_flac(int descriptor, const char *path, io_error *error)
{
    unsigned char head[42];
    if (!read_at(descriptor, path, 0, sizeof head, head, error)) return -1;
    if ((head[4] & 0x7f) != 0 || number(head + 5, 3, true) != 34)
        return io_fail(error, "%s: its first block is not STREAMINFO", path);
    if ((number(head + 21, 5, true) & UINT64_C(0xfffffffff)) == 0)
        return io_fail(error, "%s: does not say how many samples it holds, or holds none; encode it once more", path);
    return 0;
}

enum { PAGE_HEAD = 27, PAGE_MOST = PAGE_HEAD + 255 + 255 * 255, LAST_PAGE = 4 };

/* The polynomial is 0x04c11db7, most significant bit first, begun with 0. */
static uint32_t page_checksum(const uint32_t table[256], const unsigned char *page, int64_t size)
{
    uint32_t sum = 0;
    for (int64_t i = 0; i < size; i++) {
        const unsigned char byte = i >= 22 && i < 26 ? 0 : page[i]; /* the checksum itself counts as 0 */
        sum = sum << 8 ^ table[(sum >> 24 ^ byte) & 0xff];
    }
    return sum;
}

static void make_table(uint32_t table[256])
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t r = i << 24;
        for (int bit = 0; bit < 8; bit++) r = r << 1 ^ (r >> 31 ? UINT32_C(0x04c11db7) : 0);
        table[i] = r;
    }
}

/* The page at `at`, read into `page`; its size, or -1. */
static int64_t read_page(int descriptor, const char *path, int64_t at, int64_t bytes, unsigned char *page,
                         io_error *error)
{
    enum { HEAD_MOST = PAGE_HEAD + 255 };
    const int64_t left = bytes - at, head = left < HEAD_MOST ? left : HEAD_MOST;
    if (!read_at(descriptor, path, at, (size_t)head, page, error)) return -1;
    if (memcmp(page, "OggS", head < 4 ? (size_t)head : 4) != 0)
        return io_fail(error, "%s: is damaged: no OGG page begins at byte %" PRId64, path, at);
    int64_t size = PAGE_HEAD;
    if (head >= size) size += page[26];
    if (head >= size && head >= PAGE_HEAD)
        for (int i = 0, segments = page[26]; i < segments; i++) size += page[PAGE_HEAD + i];
    if (left < size)
        return io_fail(error, "%s: truncated: its last OGG page, at byte %" PRId64 ", is not complete", path, at);
    if (size > head && !read_at(descriptor, path, at + head, (size_t)(size - head), page + head, error)) return -1;
    return size;
}

static int check_ogg(int descriptor, const char *path, int64_t bytes, io_error *error)
{
    unsigned char *page = malloc(PAGE_MOST);
    uint32_t table[256], serial = 0;
    if (!page) return io_fail(error, "%s: not enough memory for an OGG page", path);
    make_table(table);
    bool ended = false;
    int result = -1;
    int64_t at = 0, count = 0, size;
    for (; at < bytes; at += size, count++) {
        size = read_page(descriptor, path, at, bytes, page, error);
        if (size < 0) goto finish;
        const uint32_t of = (uint32_t)number(page + 14, 4, false);
        if (number(page + 22, 4, false) != page_checksum(table, page, size)) {
            io_fail(error, "%s: is damaged: the checksum of the OGG page at byte %" PRId64 " does not fit", path, at);
            goto finish;
        }
        if (ended || (count > 0 && of != serial)) {
            io_fail(error, "%s: holds more than one stream (from byte %" PRId64 " on); one recording is needed", path,
                    at);
            goto finish;
        }
        serial = of;
        if (number(page + 18, 4, false) != (uint64_t)(uint32_t)count) {
            io_fail(error, "%s: is damaged: OGG pages are missing ahead of byte %" PRId64, path, at);
            goto finish;
        }
        ended = page[5] & LAST_PAGE;
    }
    result = ended ? 0 : io_fail(error, "%s: truncated: the OGG page that ends a stream is missing", path);
finish:
    free(page);
    return result;
}

int container_check(int descriptor, const char *path, int64_t bytes, audio_container container, io_error *error)
{
    switch (container) {
    case CONTAINER_WAV:
        return check_wav(descriptor, path, bytes, error);
    case CONTAINER_FLAC:
        return check_flac(descriptor, path, error);
    case CONTAINER_OGG:
        break;
    }
    return check_ogg(descriptor, path, bytes, error);
}

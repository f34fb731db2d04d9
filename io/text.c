/* Tokens of a byte range of a file. Whether a token begins at a byte depends on that byte and the one before it, so any
 * cut of a file into ranges gives the same tokens. */
#include "io/text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FIRST_LOOK = 4096, MOST_READ = 64 << 20 };

static bool is_space(unsigned char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_word(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c >= 0x80;
}

static int open_text(const char *path, int *descriptor_p, int64_t *size_p, io_error *error)
{
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0 || fstat(descriptor, &status) != 0) {
        io_fail(error, "%s: cannot be read: %s", path, strerror(errno));
    } else if (!S_ISREG(status.st_mode)) {
        io_fail(error, "%s: is %s; a regular file is needed", path,
                S_ISDIR(status.st_mode) ? "a folder" : "not a regular file");
    } else {
        *descriptor_p = descriptor;
        *size_p = status.st_size;
        return 0;
    }
    if (descriptor >= 0) close(descriptor);
    return -1;
}

static int read_bytes(int descriptor, const char *path, int64_t begin, int64_t end, char *target, io_error *error)
{
    while (begin < end) {
        size_t piece = end - begin < MOST_READ ? (size_t)(end - begin) : MOST_READ;
        ssize_t got = pread(descriptor, target, piece, begin);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return io_fail(error, "%s: cannot be read: %s", path, strerror(errno));
        if (got == 0) return io_fail(error, "%s: became shorter while it was read", path);
        target += got;
        begin += got;
    }
    return 0;
}

int text_file_size(const char *path, int64_t *bytes_p, io_error *error)
{
    int descriptor;
    int64_t size;
    if (open_text(path, &descriptor, &size, error) != 0) return -1;
    char piece[FIRST_LOOK];
    int result = size > 0 ? 0 : io_fail(error, "%s: is empty", path);
    bool found = false;
    for (int64_t at = 0; result == 0 && !found && at < size; at += FIRST_LOOK) {
        int64_t end = at + FIRST_LOOK < size ? at + FIRST_LOOK : size;
        result = read_bytes(descriptor, path, at, end, piece, error);
        for (int64_t i = 0; result == 0 && !found && i < end - at; i++) found = !is_space((unsigned char)piece[i]);
    }
    close(descriptor);
    if (result == 0 && !found) result = io_fail(error, "%s: holds no token, only white space", path);
    if (result == 0) *bytes_p = size;
    return result;
}

/* File bytes [begin, begin + length), growing at both ends. */
typedef struct {
    int descriptor;
    const char *path;
    char *bytes;
    int64_t begin, length;
} window;

/* Widens the window to [begin, end), which holds it. */
static int window_widen(window *w, int64_t begin, int64_t end, io_error *error)
{
    char *bytes = malloc((size_t)(end - begin) + 1);
    if (!bytes) {
        return io_fail(error, "%s: not enough memory for %" PRId64 " bytes of text", w->path, end - begin);
    }
    int64_t old_end = w->begin + w->length;
    if (w->length > 0) memcpy(bytes + (w->begin - begin), w->bytes, (size_t)w->length);
    if (read_bytes(w->descriptor, w->path, begin, w->begin, bytes, error) != 0 ||
        read_bytes(w->descriptor, w->path, old_end, end, bytes + (old_end - begin), error) != 0) {
        free(bytes);
        return -1;
    }
    free(w->bytes);
    w->bytes = bytes;
    w->begin = begin;
    w->length = end - begin;
    return 0;
}

/* Does a token begin at byte i of the window? No, too, where only the byte ahead of the window could tell. */
static bool begins_token(const window *w, int64_t i)
{
    unsigned char c = (unsigned char)w->bytes[i];
    if (is_space(c)) return false;
    if (!is_word(c)) return true;
    return i == 0 ? w->begin == 0 : !is_word((unsigned char)w->bytes[i - 1]);
}

/* How many tokens begin in window bytes [from, to). */
static int64_t count_tokens(const window *w, int64_t from, int64_t to)
{
    int64_t count = 0;
    for (int64_t i = from; i < to; i++) count += begins_token(w, i);
    return count;
}

static int widen_back(window *w, int before, int64_t *before_p, io_error *error)
{
    int64_t begin = w->begin, end = begin + w->length, look = FIRST_LOOK;
    *before_p = 0;
    while (begin > 0 && w->begin > 0) {
        if (window_widen(w, begin > look ? begin - look : 0, end, error) != 0) return -1;
        *before_p = count_tokens(w, 0, begin - w->begin);
        if (*before_p >= before) break;
        look *= 4;
    }
    return 0;
}

/* Until the token that reaches the end of the window ends. */
static int widen_forward(window *w, int64_t size, io_error *error)
{
    int64_t look = FIRST_LOOK, known = w->length;
    while (known > 0 && is_word((unsigned char)w->bytes[known - 1])) {
        int64_t end = w->begin + w->length;
        if (known == w->length) {
            if (end == size) break;
            if (window_widen(w, w->begin, size - end > look ? end + look : size, error) != 0) return -1;
            look *= 4;
        }
        known++;
    }
    return 0;
}

/* Those that begin ahead of byte `to`, without the first `skip`. */
static void list_tokens(const window *w, int64_t to, int64_t skip, text_token *tokens)
{
    int64_t count = 0;
    for (int64_t i = 0; i < to; i++) {
        if (!begins_token(w, i) || skip-- > 0) continue;
        int64_t end = i + 1;
        if (is_word((unsigned char)w->bytes[i])) {
            while (end < w->length && is_word((unsigned char)w->bytes[end])) end++;
        }
        tokens[count++] = (text_token){w->begin + i, end - i};
    }
}

int text_read_tokens(const char *path, int64_t begin, int64_t end, int before, text_token **tokens_p, int64_t *before_p,
                     int64_t *count_p, char **bytes_p, int64_t *bytes_begin_p, io_error *error)
{
    window w = {.path = path, .begin = begin};
    int64_t size, found_before = 0;
    if (open_text(path, &w.descriptor, &size, error) != 0) return -1;
    int result = -1;
    if (begin < 0 || begin > end || end > size || before < 0) {
        io_fail(error, "%s: bytes %" PRId64 " to %" PRId64 " are outside of its %" PRId64, path, begin, end, size);
        goto finish;
    }
    if (window_widen(&w, begin, end, error) != 0) goto finish;
    /* Even with before = 0 the byte ahead of `begin` tells whether a token begins there. */
    if (widen_back(&w, before, &found_before, error) != 0 || widen_forward(&w, size, error) != 0) goto finish;

    int64_t count = count_tokens(&w, begin - w.begin, end - w.begin);
    int64_t kept = found_before < before ? found_before : before;
    text_token *tokens = malloc((size_t)(kept + count + 1) * sizeof *tokens);
    if (!tokens) {
        io_fail(error, "%s: not enough memory for %" PRId64 " tokens", path, kept + count);
        goto finish;
    }
    list_tokens(&w, end - w.begin, found_before - kept, tokens);
    *tokens_p = tokens;
    *before_p = kept;
    *count_p = count;
    *bytes_p = w.bytes;
    *bytes_begin_p = w.begin;
    w.bytes = NULL;
    result = 0;
finish:
    close(w.descriptor);
    free(w.bytes);
    return result;
}

/* How io functions fail: they return -1 and leave one line that says what, where and what to do. */
#ifndef IO_ERROR_H
#define IO_ERROR_H

typedef struct {
    char text[768];
} io_error;

/* Writes the line and returns -1, so that a caller can say `return io_fail(error, ...)`. */
int io_fail(io_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif

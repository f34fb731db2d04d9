/* How rows are cut into messages: as many whole rows a message as MESSAGE_MAX_BYTES hold, at least one. Sender, receiver
 * and planner cut in the same way. */
#ifndef PARTITION_MESSAGE_H
#define PARTITION_MESSAGE_H

#include <stdint.h>

/* Bytes of one message, at most, where rows can be cut so. */
enum { MESSAGE_MAX_BYTES = 64 << 20 };

/* Rows of `row_bytes` bytes that a message holds. */
static inline int64_t message_rows(int64_t row_bytes)
{
    return row_bytes > 0 && row_bytes < MESSAGE_MAX_BYTES ? MESSAGE_MAX_BYTES / row_bytes : 1;
}

/* Messages that carry `rows` rows of `row_bytes` bytes. */
static inline int64_t message_count(int64_t rows, int64_t row_bytes)
{
    const int64_t most = message_rows(row_bytes);
    return (rows + most - 1) / most;
}

#endif

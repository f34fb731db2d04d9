/* A layer that breaks every rule that layering.cmake holds. Never run. */
extern int MPI_Comm_rank(void *comm, int *rank);
extern long H5Fopen(const char *name, unsigned flags, long access);
extern void *malloc(unsigned long bytes);
extern int printf(const char *format, ...);
extern int layering_other_layer(void);

int layering_breach(void)
{
    int rank = 0;
    MPI_Comm_rank(malloc(1), &rank);
    return rank + printf("%ld", H5Fopen("", 0, 0)) + layering_other_layer();
}

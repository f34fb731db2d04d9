/* Loses memory in an MPI program, for the leak check of an AddressSanitizer build to find. */
#include <mpi.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    MPI_Init(&argc, &argv);
    void *volatile lost = malloc(1234);
    lost = NULL;
    (void)lost;
    MPI_Finalize();
    return 0;
}

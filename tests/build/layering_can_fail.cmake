# Does layering.cmake find what it is there to find? Gives it archives with known faults.
#
#   cmake -DNM=nm -DAR=ar -DBREACHES=FILE -DSOUND=FILE -DFOLDER=DIR -P layering_can_fail.cmake
cmake_minimum_required(VERSION 3.25)

# Runs the check on (kernels, partition, io); it must fail and name each of the given things.
function(expect_refusal kernels partition io)
  execute_process(
    COMMAND ${CMAKE_COMMAND} -DNM=${NM} -DKERNELS=${kernels} -DPARTITION=${partition} -DIO=${io}
            -P ${CMAKE_CURRENT_LIST_DIR}/layering.cmake
    RESULT_VARIABLE status ERROR_VARIABLE text OUTPUT_QUIET)
  if(status EQUAL 0)
    message(SEND_ERROR "accepted: kernels=${kernels} partition=${partition} io=${io}")
  endif()
  string(REGEX REPLACE "[ \n]+" " " text "${text}")
  foreach(expected IN LISTS ARGN)
    string(FIND "${text}" "${expected}" found)
    if(found EQUAL -1)
      message(SEND_ERROR "did not say '${expected}' but: ${text}")
    endif()
  endforeach()
endfunction()

file(MAKE_DIRECTORY ${FOLDER})
set(empty ${FOLDER}/empty.a)
file(REMOVE ${empty})
execute_process(COMMAND ${AR} rc ${empty} COMMAND_ERROR_IS_FATAL ANY)

expect_refusal(${BREACHES} ${SOUND} ${SOUND}
               "kernels references MPI_Comm_rank: only runtime calls MPI"
               "kernels references H5Fopen: only io and runtime call HDF5"
               "kernels references malloc: kernels do not allocate"
               "kernels references printf: kernels do no I/O"
               "kernels references layering_other_layer of partition"
               "kernels references layering_other_layer of io")
expect_refusal(${SOUND} ${BREACHES} ${SOUND}
               "partition references MPI_Comm_rank" "partition references H5Fopen"
               "partition references layering_other_layer of kernels")
expect_refusal(${SOUND} ${SOUND} ${BREACHES} "io references MPI_Comm_rank" "io references layering_other_layer of kernels")
expect_refusal(${SOUND} ${SOUND} ${FOLDER}/missing.a "io: no archive")
expect_refusal(${SOUND} ${empty} ${SOUND} "partition:" "defines no symbol")

execute_process(
  COMMAND ${CMAKE_COMMAND} -DNM=${NM} -DKERNELS=${SOUND} -DPARTITION=${SOUND} -DIO=${SOUND}
          -P ${CMAKE_CURRENT_LIST_DIR}/layering.cmake
  COMMAND_ERROR_IS_FATAL ANY)
